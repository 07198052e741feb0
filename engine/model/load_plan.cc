#include "engine/model/load_plan.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace vernier {
namespace {

// A place in a variant that a matrix fills, and the place of its bias (null: a table).
struct MatrixSlot {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  const Weight** weight = nullptr;
  const Vector** bias = nullptr;
  bool bias_required = false;
};

struct NormSlot {
  std::string name;
  int64_t size = 0;
  Norm* norm = nullptr;
};

// Every matrix of a variant under its canonical name, as the forward pass wants it.
std::vector<MatrixSlot> MatrixSlots(const ModelConfig& config, Activations activations,
                                    VariantWeights* variant) {
  const int64_t hidden = config.hidden;
  const int64_t inner = config.intermediate;
  const int64_t q_rows = int64_t{config.attention.num_heads} * config.attention.head_dim;
  const int64_t kv_rows = int64_t{config.attention.num_kv_heads} * config.attention.head_dim;
  std::vector<MatrixSlot> slots;
  auto add = [&](std::string name, int64_t rows, int64_t cols, Linear* linear) {
    linear->activations = activations;
    slots.push_back({std::move(name), rows, cols, &linear->weight, &linear->bias});
  };
  auto add_qkv = [&](std::string name, int64_t rows, Linear* linear) {
    add(std::move(name), rows, hidden, linear);
    slots.back().bias_required = config.qkv_biases;
  };
  slots.push_back({"embed", config.vocab, hidden, &variant->embed.table, nullptr});
  if (config.learned_positions) {
    slots.push_back({"position_embed", config.context, hidden, &variant->embed.positions, nullptr});
  }
  for (size_t i = 0; i < variant->layers.size(); ++i) {
    LayerWeights* layer = &variant->layers[i];
    const std::string prefix = absl::StrCat("layers.", i, ".");
    add_qkv(prefix + "attention.q", q_rows, &layer->q);
    add_qkv(prefix + "attention.k", kv_rows, &layer->k);
    add_qkv(prefix + "attention.v", kv_rows, &layer->v);
    add(prefix + "attention.o", hidden, q_rows, &layer->o);
    if (config.gated_mlp) add(prefix + "mlp.gate", inner, hidden, &layer->gate);
    add(prefix + "mlp.up", inner, hidden, &layer->up);
    add(prefix + "mlp.down", hidden, inner, &layer->down);
  }
  add("lm_head", config.vocab, hidden, &variant->lm_head);
  return slots;
}

std::vector<NormSlot> NormSlots(const ModelConfig& config, VariantWeights* variant) {
  std::vector<NormSlot> slots;
  for (size_t i = 0; i < variant->layers.size(); ++i) {
    LayerWeights* layer = &variant->layers[i];
    auto add = [&](absl::string_view name, int64_t size, Norm* norm) {
      slots.push_back({absl::StrCat("layers.", i, ".", name), size, norm});
    };
    add("attention_norm", config.hidden, &layer->attention_norm);
    add("mlp_norm", config.hidden, &layer->mlp_norm);
    if (config.head_norms) {
      add("attention.q_norm", config.attention.head_dim, &layer->q_norm);
      add("attention.k_norm", config.attention.head_dim, &layer->k_norm);
    }
    if (config.post_norms) {
      add("attention_post_norm", config.hidden, &layer->attention_post_norm);
      add("mlp_post_norm", config.hidden, &layer->mlp_post_norm);
    }
  }
  slots.push_back({"final_norm", config.hidden, &variant->final_norm});
  return slots;
}

// The first rule that matches decides. Learned positions are added to the embedding, so they follow
// its rule.
absl::StatusOr<FormatId> FormatFor(const VariantSpec& spec, const std::string& name) {
  const std::string matched = name == "position_embed" ? "embed" : name;
  for (const FormatRule& rule : spec.formats) {
    if (MatchesPattern(rule.pattern, matched)) return rule.format;
  }
  return absl::InvalidArgumentError(absl::StrCat("variant ", spec.name, ": no rule gives ", name,
                                                 " a format (end the rules with \"*\")"));
}

class Planner {
 public:
  explicit Planner(const TensorSource& checkpoint) : checkpoint_(checkpoint) {}

  absl::Status AddVariant(const VariantSpec& spec, int index, VariantWeights* variant) {
    const ModelConfig& config = checkpoint_.config();
    for (const MatrixSlot& slot : MatrixSlots(config, spec.activations, variant)) {
      const absl::StatusOr<FormatId> format = FormatFor(spec, slot.name);
      if (!format.ok()) return format.status();
      // A tied lm_head is the embedding, read once for both.
      const bool tied = slot.name == "lm_head" && config.tied_lm_head;
      if (absl::Status status = AddMatrix(tied ? "embed" : slot.name, slot, index, *format);
          !status.ok()) {
        return status;
      }
      if (slot.bias == nullptr) continue;
      if (slot.bias_required && !checkpoint_.Has(slot.name + ".bias")) {
        return Missing(slot.name + ".bias");
      }
      AddOptionalVector(slot.name + ".bias", slot.rows, slot.bias);
    }
    variant->embed.scale = config.embed_scale;
    for (const NormSlot& slot : NormSlots(config, variant)) {
      slot.norm->kind = config.norm;
      slot.norm->epsilon = config.norm_epsilon;
      if (!checkpoint_.Has(slot.name + ".weight")) return Missing(slot.name + ".weight");
      AddOptionalVector(slot.name + ".weight", slot.size, &slot.norm->weight);
      AddOptionalVector(slot.name + ".bias", slot.size, &slot.norm->bias);
    }
    return absl::OkStatus();
  }

  LoadPlan Take() { return std::move(plan_); }

 private:
  static absl::Status Missing(const std::string& name) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", name, " is not in the checkpoint"));
  }

  absl::Status AddMatrix(const std::string& name, const MatrixSlot& slot, int variant,
                         FormatId format) {
    const auto [it, added] = matrix_of_.emplace(name, plan_.matrices.size());
    if (added) {
      if (!checkpoint_.Has(name)) return Missing(name);
      plan_.matrices.push_back({.name = name, .rows = slot.rows, .cols = slot.cols});
    }
    MatrixPlan& matrix = plan_.matrices[it->second];
    const auto found = std::find(matrix.formats.begin(), matrix.formats.end(), format);
    const size_t index = static_cast<size_t>(found - matrix.formats.begin());
    if (found == matrix.formats.end()) matrix.formats.push_back(format);
    matrix.uses.push_back({variant, index, slot.weight});
    return absl::OkStatus();
  }

  void AddOptionalVector(const std::string& name, int64_t size, const Vector** target) {
    if (!checkpoint_.Has(name)) return;
    const auto [it, added] = vector_of_.emplace(name, plan_.vectors.size());
    if (added) plan_.vectors.push_back({.name = name, .size = size});
    plan_.vectors[it->second].targets.push_back(target);
  }

  const TensorSource& checkpoint_;
  LoadPlan plan_;
  std::unordered_map<std::string, size_t> matrix_of_, vector_of_;  // indices into plan_ by name
};

}  // namespace

bool MatchesPattern(absl::string_view pattern, absl::string_view name) {
  // Greedy with one point of return: the last `*` may always take one character more.
  size_t p = 0, n = 0;
  size_t star = absl::string_view::npos, star_end = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != absl::string_view::npos) {
      p = star + 1;
      n = ++star_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == absl::string_view::npos;
}

absl::StatusOr<LoadPlan> PlanLoad(const TensorSource& checkpoint,
                                  const std::vector<VariantSpec>& specs,
                                  const std::vector<VariantWeights*>& variants) {
  const ModelConfig& config = checkpoint.config();
  // A config that claims more layers than the file has must not size anything.
  if (config.num_layers < 0 ||
      config.num_layers > static_cast<int64_t>(checkpoint.tensors().size())) {
    return absl::InvalidArgumentError(absl::StrCat("the config says ", config.num_layers,
                                                   " layers, the checkpoint has ",
                                                   checkpoint.tensors().size(), " tensors"));
  }
  Planner planner(checkpoint);
  for (size_t i = 0; i < specs.size(); ++i) {
    VariantWeights* variant = variants[i];
    if (variant == nullptr) continue;
    variant->layers.resize(config.num_layers);
    if (absl::Status status = planner.AddVariant(specs[i], static_cast<int>(i), variant);
        !status.ok()) {
      return status;
    }
  }
  return planner.Take();
}

}  // namespace vernier
