#include "engine/text/token_model.h"

#include <utility>

#include "engine/text/decoding.h"
#include "kernels/base/check.h"

namespace vernier {

absl::StatusOr<TokenModel> TokenModel::Create(const TokenizerParts& parts) {
  TokenModel out;
  out.size_ = static_cast<int32_t>(parts.spellings.size());
  if (parts.model == ModelKind::kUnigram) {
    auto unigram = UnigramModel::Create(parts);
    if (!unigram.ok()) return unigram.status();
    out.unigram_ = *std::move(unigram);
  } else {
    auto bpe = BpeModel::Create(parts);
    if (!bpe.ok()) return bpe.status();
    out.bpe_ = *std::move(bpe);
  }
  if (parts.model != ModelKind::kByteLevelBpe) out.FillDecoded(parts);
  return out;
}

void TokenModel::FillDecoded(const TokenizerParts& parts) {
  offsets_.reserve(parts.spellings.size() + 1);
  offsets_.push_back(0);
  for (const std::string& spelling : parts.spellings) {
    decoded_ += DecodedToken(parts.decoding.token_steps, spelling);
    offsets_.push_back(decoded_.size());
  }
}

void TokenModel::Encode(absl::string_view piece, TokenModelScratch* scratch,
                        std::vector<int32_t>* out) const {
  if (bpe_ != nullptr) {
    bpe_->Encode(piece, &scratch->bpe, out);
  } else {
    unigram_->Encode(piece, &scratch->unigram, out);
  }
}

absl::string_view TokenModel::Bytes(int32_t id) const {
  VERNIER_CHECK(id >= 0 && id < size_);
  if (offsets_.empty()) return bpe_->Bytes(id);
  return absl::string_view(decoded_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
}

int64_t TokenModel::bytes() const {
  return static_cast<int64_t>(decoded_.capacity() + offsets_.capacity() * sizeof(offsets_[0])) +
         (bpe_ != nullptr ? bpe_->bytes() : unigram_->bytes());
}

}  // namespace vernier
