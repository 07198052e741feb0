#include "kernels/cpu/attention.h"

#include <algorithm>
#include <limits>

#include "kernels/base/check.h"

namespace vernier {
namespace {

static_assert(kKeyBlock == kBlockTokens);

int64_t PaddedHead(const AttentionShape& shape) { return CheckedRoundUp(shape.head_dim, kChunk); }

// One task and kv head: the queries of its rows that share the head, and their running softmax.
class HeadTask {
 public:
  HeadTask(const AttentionRuntime& runtime, const Batch& batch, const AttentionArgs& args,
           const AttentionTask& task, int kv_head, float* scratch)
      : runtime_(runtime),
        batch_(batch),
        args_(args),
        shape_(args.shape),
        task_(task),
        kv_head_(kv_head),
        group_(shape_.num_heads / shape_.num_kv_heads),
        width_(PaddedHead(shape_)) {
    const int64_t queries = int64_t{task.num_rows} * group_;
    keys_ = scratch;
    values_ = keys_ + kKeyBlock * width_;
    queries_ = values_ + kKeyBlock * width_;
    sums_ = queries_ + queries * width_;
    scores_ = sums_ + queries * width_;
    maxima_ = scores_ + runtime.kernels->max_queries * kKeyBlock;
    totals_ = maxima_ + queries;
    keep_ = totals_ + queries;
  }

  void Run(Rows q, Rows a) {
    Begin(q);
    const int64_t first = FirstKey(0);
    const int64_t last = Position(task_.num_rows - 1);
    for (int64_t block = first / kKeyBlock; block <= last / kKeyBlock; ++block) {
      const int64_t base = block * kKeyBlock;
      LoadBlock(block, static_cast<int>(std::max(first - base, int64_t{0})),
                static_cast<int>(std::min<int64_t>(last + 1 - base, kKeyBlock)));
      // Rows ascend, and with them the first and the last key that they see: in the middle of the
      // task are those that see the whole block.
      for (int row = 0; row < task_.num_rows;) {
        const int begin = static_cast<int>(std::max(FirstKey(row) - base, int64_t{0}));
        const int end = static_cast<int>(std::min<int64_t>(Position(row) + 1 - base, kKeyBlock));
        int rows = 1;
        while (begin == 0 && end == kKeyBlock && row + rows < task_.num_rows &&
               FirstKey(row + rows) <= base) {
          ++rows;
        }
        if (begin < end) AddBlock(row * group_, rows * group_, begin, end);
        row += rows;
      }
    }
    End(a);
  }

 private:
  int64_t Position(int row) const { return batch_.positions[task_.first_row + row]; }
  int64_t FirstKey(int row) const {
    return shape_.window > 0 ? std::max<int64_t>(0, Position(row) - shape_.window + 1) : 0;
  }

  void Begin(Rows q) {
    for (int row = 0; row < task_.num_rows; ++row) {
      for (int i = 0; i < group_; ++i) {
        const int64_t index = row * group_ + i;
        const float* from =
            q.row(task_.first_row + row) + (int64_t{kv_head_} * group_ + i) * shape_.head_dim;
        float* to = queries_ + index * width_;
        std::copy_n(from, shape_.head_dim, to);
        std::fill(to + shape_.head_dim, to + width_, 0.0f);
        std::fill_n(sums_ + index * width_, width_, 0.0f);
        maxima_[index] = -std::numeric_limits<float>::infinity();
        totals_[index] = 0;
      }
    }
  }

  // The sequence's block as fp32: all of its keys, and slots [begin, end) of its values.
  void LoadBlock(int64_t block, int begin, int end) {
    const SequenceRows& sequence = batch_.sequences[task_.sequence];
    VERNIER_CHECK(block < sequence.num_blocks);
    const int64_t id = batch_.blocks[sequence.first_block + block];
    const auto load = runtime_.kernels->load[static_cast<int>(args_.kv_type)];
    const auto head = [&](int value) {
      return runtime_.cache.head(id, args_.layer, value, kv_head_, shape_, args_.kv_type);
    };
    load(head(0), int64_t{kKeyBlock} * shape_.head_dim, keys_);
    const int64_t row_bytes = shape_.head_dim * ScalarBytes(args_.kv_type);
    const uint8_t* values = head(1);
    if (width_ == shape_.head_dim) {
      load(values + begin * row_bytes, (end - begin) * width_, values_ + begin * width_);
      return;
    }
    for (int j = begin; j < end; ++j) {
      load(values + j * row_bytes, shape_.head_dim, values_ + j * width_);
      std::fill(values_ + j * width_ + shape_.head_dim, values_ + (j + 1) * width_, 0.0f);
    }
  }

  // Keys [begin, end) of the block, for `count` queries. Scores of the other slots may be anything.
  void AddBlock(int64_t first, int64_t count, int begin, int end) {
    const KernelTable& kernels = *runtime_.kernels;
    for (int64_t i = first; i < first + count; i += kernels.max_queries) {
      const auto some = static_cast<int>(std::min<int64_t>(kernels.max_queries, first + count - i));
      kernels.score_keys({.count = some,
                          .q = queries_ + i * width_,
                          .q_stride = width_,
                          .n = shape_.head_dim,
                          .keys = keys_,
                          .scale = shape_.scale,
                          .scores = scores_});
      for (int j = 0; j < some; ++j) {
        keep_[j] =
            kernels.soften(scores_ + j * kKeyBlock, begin, end, &maxima_[i + j], &totals_[i + j]);
      }
      kernels.add_values({.count = some,
                          .p = scores_,
                          .first = begin,
                          .last = end,
                          .values = values_,
                          .n = width_,
                          .keep = keep_,
                          .sums = sums_ + i * width_});
    }
  }

  void End(Rows a) {
    const int64_t cols = int64_t{shape_.num_heads} * shape_.head_dim;
    for (int row = 0; row < task_.num_rows; ++row) {
      float* out = a.row(task_.first_row + row);
      for (int i = 0; i < group_; ++i) {
        const int64_t index = row * group_ + i;
        const float* from = sums_ + index * width_;
        float* to = out + (int64_t{kv_head_} * group_ + i) * shape_.head_dim;
        for (int d = 0; d < shape_.head_dim; ++d) to[d] = from[d] / totals_[index];
      }
      if (kv_head_ == 0) std::fill(out + cols, out + PaddedCols(cols), 0.0f);
    }
  }

  const AttentionRuntime& runtime_;
  const Batch& batch_;
  const AttentionArgs& args_;
  const AttentionShape& shape_;
  const AttentionTask& task_;
  const int kv_head_;
  const int group_;      // query heads of the kv head
  const int64_t width_;  // head_dim to a multiple of kChunk
  float* keys_;          // [head_dim, kKeyBlock]
  float* values_;        // [kKeyBlock, width_]
  float* queries_;       // [num_rows * group_, width_]
  float* sums_;          // [num_rows * group_, width_]
  float* scores_;        // [max_queries, kKeyBlock]
  float* maxima_;        // [num_rows * group_]
  float* totals_;        // [num_rows * group_]
  float* keep_;          // [max_queries]
};

}  // namespace

int64_t AttentionScratchFloats(const KernelTable& kernels, const AttentionShape& shape) {
  const int64_t width = PaddedHead(shape);
  const int64_t queries = CheckedMultiply(shape.num_heads / shape.num_kv_heads, kAttentionTaskRows);
  const int64_t block = int64_t{kernels.max_queries} * (kKeyBlock + 1);
  return CheckedRoundUp(
      CheckedAdd(CheckedMultiply(CheckedAdd(kKeyBlock, queries), CheckedMultiply(2, width)),
                 CheckedAdd(CheckedMultiply(2, queries), block)),
      kChunk);
}

void MakeAttentionTasks(const Batch& batch, std::vector<AttentionTask>* tasks) {
  tasks->clear();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceRows& sequence = batch.sequences[i];
    for (int32_t row = 0; row < sequence.num_rows; row += kAttentionTaskRows) {
      VERNIER_CHECK(tasks->size() < tasks->capacity());
      tasks->push_back({static_cast<int32_t>(i), sequence.first_row + row,
                        std::min(kAttentionTaskRows, sequence.num_rows - row)});
    }
  }
}

void Attend(const AttentionRuntime& runtime, const Batch& batch, const AttentionArgs& args,
            const std::vector<AttentionTask>& tasks, Rows q, Rows a) {
  // Later rows have more keys, so the threads take turns rather than ranges.
  const int64_t kv_heads = args.shape.num_kv_heads;
  const int64_t items = static_cast<int64_t>(tasks.size()) * kv_heads;
  const int64_t threads = std::min<int64_t>(runtime.pool->threads(), items);
  runtime.pool->ParallelFor(threads, [&](int thread, int64_t begin, int64_t end) {
    for (int64_t turn = begin; turn < end; ++turn) {
      for (int64_t item = turn; item < items; item += threads) {
        HeadTask task(runtime, batch, args, tasks[item / kv_heads],
                      static_cast<int>(item % kv_heads), runtime.scratch.row(thread));
        task.Run(q, a);
      }
    }
  });
}

}  // namespace vernier
