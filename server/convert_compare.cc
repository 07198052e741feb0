// Compare's part of convert.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_payload.h"
#include "kernels/quant_format.h"
#include "server/convert.h"

namespace vernier {
namespace {

absl::StatusOr<std::vector<int>> ConvertVariants(const v1::CompareRequest& request,
                                                 const Model& model) {
  std::vector<int> variants;
  if (request.variants_size() == 0) {
    for (size_t i = 0; i < model.variants.size(); ++i) {
      if (model.variants[i].loaded) variants.push_back(static_cast<int>(i));
    }
  }
  for (const std::string& name : request.variants()) {
    auto index = ResolveVariant("", name, model);
    if (name.empty()) return InvalidField({"variants", "empty name", "a served variant"});
    if (!index.ok()) return index.status();
    // One of each at most, so a list of a million names ends at the second of a kind.
    if (std::find(variants.begin(), variants.end(), *index) != variants.end()) {
      return InvalidField({"variants", "one twice", "each once"});
    }
    variants.push_back(*index);
  }
  if (variants.size() == 1 && !request.aa_control()) {
    return absl::FailedPreconditionError("Compare needs two variants, or one and aa_control");
  }
  return variants;
}

// Order of precision: of the weights, then of the KV cache.
std::pair<int, int> RankOf(const Variant& variant) {
  return {FormatOf(variant.precision).precision_rank, TraitsOf(variant.kv).precision_rank};
}

absl::StatusOr<int> ConvertReference(const v1::CompareRequest& request,
                                     const std::vector<int>& variants, const Model& model) {
  if (request.reference().empty()) {
    return *std::max_element(variants.begin(), variants.end(), [&](int a, int b) {
      return RankOf(model.variants[a]) < RankOf(model.variants[b]);
    });
  }
  auto index = ResolveVariant("", request.reference(), model);
  if (!index.ok()) return index.status();
  if (std::find(variants.begin(), variants.end(), *index) == variants.end()) {
    return InvalidField({"reference", "not compared", "one of variants"});
  }
  return *index;
}

absl::Status ConvertForced(const v1::CompareRequest& request, const Model& model,
                           int64_t max_context, CompareSpec* spec) {
  if (request.forced_case() == v1::CompareRequest::FORCED_NOT_SET) return absl::OkStatus();
  spec->forced_given = true;
  if (request.forced_case() == v1::CompareRequest::kForcedText) {
    if (model.tokenizer == nullptr) {
      return absl::FailedPreconditionError("this model is served for token ids alone");
    }
    if (request.forced_text().empty()) {
      return InvalidField({"forced_text", "empty", "at least 1 byte of UTF-8"});
    }
    spec->forced.kind = PromptInput::Kind::kText;
    spec->forced.text = request.forced_text();
    return absl::OkStatus();
  }
  spec->forced.kind = PromptInput::Kind::kIds;
  const auto& ids = request.forced_ids().ids();
  if (ids.empty() || ids.size() > max_context) {
    return InvalidField({"forced_ids", absl::StrCat(ids.size(), " tokens"),
                         absl::StrCat("1 to ", max_context, " tokens")});
  }
  for (const uint32_t id : ids) {
    if (id >= static_cast<uint64_t>(model.config.vocab)) {
      return InvalidField(
          {"forced_ids", absl::StrCat(id), absl::StrCat("[0, ", model.config.vocab, ")")});
    }
    spec->forced.ids.push_back(static_cast<int32_t>(id));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompareSpec> ConvertCompare(const v1::CompareRequest& request, const Model& model,
                                           int64_t max_context) {
  CompareSpec spec;
  auto variants = ConvertVariants(request, model);
  if (!variants.ok()) return variants.status();
  spec.variants = *std::move(variants);
  auto reference = ConvertReference(request, spec.variants, model);
  if (!reference.ok()) return reference.status();
  spec.reference = *reference;

  if (!request.base().variant().empty()) {
    return InvalidField({"base.variant", "given", "unset: use variants"});
  }
  if (request.base().sampling().has_n()) {
    return InvalidField({"base.sampling.n", "given", "unset: one sample a variant"});
  }
  auto base = ConvertGenerate(request.base(), model, max_context);
  if (!base.ok()) return base.status();
  spec.base = *std::move(base);
  spec.base.priority = Priority::kLow;  // so that it cannot hurt Generate's latency

  switch (request.mode()) {
    case v1::COMPARE_MODE_UNSPECIFIED:
    case v1::BOTH:
      spec.mode = CompareMode::kBoth;
      break;
    case v1::FREE_RUNNING:
      spec.mode = CompareMode::kFree;
      break;
    case v1::TEACHER_FORCED:
      spec.mode = CompareMode::kForced;
      break;
    default:
      return InvalidField({"mode", absl::StrCat(static_cast<int>(request.mode())), "0 to 3"});
  }
  switch (request.timing()) {
    case v1::TIMING_ISOLATION_UNSPECIFIED:
    case v1::CONCURRENT:
      break;
    case v1::SERIAL:
      spec.serial = true;
      break;
    default:
      return InvalidField({"timing", absl::StrCat(static_cast<int>(request.timing())), "0 to 2"});
  }
  if (request.has_overlap_k()) {
    if (request.overlap_k() < 1 || request.overlap_k() > kMaxTopLogprobs) {
      return InvalidField(
          {"overlap_k", absl::StrCat(request.overlap_k()), absl::StrCat("1 to ", kMaxTopLogprobs)});
    }
    spec.overlap_k = static_cast<int>(request.overlap_k());
  }
  spec.overlap_k = std::min<int>(spec.overlap_k, static_cast<int>(model.config.vocab));
  spec.aa_control = request.aa_control();
  if (absl::Status status = ConvertForced(request, model, max_context, &spec); !status.ok()) {
    return status;
  }
  return spec;
}

}  // namespace vernier
