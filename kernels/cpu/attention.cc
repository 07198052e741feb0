#include "kernels/cpu/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/base/check.h"

namespace vernier {
namespace {

static_assert(kKeyBlock == kBlockTokens);
static_assert(std::extent_v<decltype(KernelTable::load)> == kNumKvTypes &&
              std::extent_v<decltype(KernelTable::store)> == kNumKvTypes);

constexpr int64_t kCacheLine = 64;
// Queries whose scores are made before their exponentials, which wait for each other less the more
// there are: a multiple of what the kernels take at once.
constexpr int kSoftenedAtOnce = 24;

// Of types that have none.
constexpr std::array<float, kKeyBlock> kNoScales = [] {
  std::array<float, kKeyBlock> ones{};
  ones.fill(1);
  return ones;
}();

int64_t PaddedHead(const AttentionShape& shape) { return CheckedRoundUp(shape.head_dim, kChunk); }

// A running softmax of some queries: of what they have seen until now.
struct Softmax {
  Softmax() = default;
  Softmax(float* floats, int64_t num_queries)
      : maxima(floats), totals(maxima + num_queries), sums(totals + num_queries) {}
  static int64_t Floats(int64_t num_queries, int64_t width) {
    return CheckedMultiply(num_queries, CheckedAdd(width, 2));
  }

  float* maxima = nullptr;  // [queries]
  float* totals = nullptr;  // [queries]
  float* sums = nullptr;    // [queries, width]
};

// One task and kv head: the queries of its rows that share the head.
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
    scores_ = queries_ + queries * width_;
    keep_ = scores_ + kSoftenedAtOnce * kKeyBlock;
    segment_ = Softmax(keep_ + kSoftenedAtOnce, queries);
    whole_ = Softmax(segment_.maxima + Softmax::Floats(queries, width_), queries);
    // A block that is read once is not loaded before.
    const bool once = queries <= runtime.kernels->max_queries && width_ == shape_.head_dim;
    read_as_ = once ? args.kv_type : KvType::kF32;
  }

  int64_t first_segment() const { return FirstKey(0) / kSegmentKeys; }
  int64_t last_segment() const { return Position(task_.num_rows - 1) / kSegmentKeys; }

  void Run(Rows q, Rows a) {
    LoadQueries(q);
    Clear(whole_);
    for (int64_t segment = first_segment(); segment <= last_segment(); ++segment) {
      RunSegment(segment, segment_);
      Merge(segment_);
    }
    Store(a);
  }

  // The same in two parts, for several threads: segments, each by itself, then their merger.
  void RunPart(Rows q, int64_t segment, float* part) {
    LoadQueries(q);
    RunSegment(segment, Softmax(part, queries()));
  }
  void MergeParts(Rows parts, Rows a) {
    Clear(whole_);
    for (int64_t i = 0; i <= last_segment() - first_segment(); ++i) {
      Merge(Softmax(parts.row(i), queries()));
    }
    Store(a);
  }

 private:
  int64_t queries() const { return int64_t{task_.num_rows} * group_; }

  void Clear(const Softmax& state) const {
    std::fill_n(state.maxima, queries(), -std::numeric_limits<float>::infinity());
    std::fill_n(state.totals, queries(), 0.0f);
    std::fill_n(state.sums, queries() * width_, 0.0f);
  }

  // What a query has seen elsewhere is added to what it has seen here.
  void Merge(const Softmax& from) const {
    for (int64_t i = 0; i < queries(); ++i) {
      if (from.maxima[i] == -std::numeric_limits<float>::infinity()) continue;  // saw no key
      const float max = std::max(whole_.maxima[i], from.maxima[i]);
      const float keep = std::exp(whole_.maxima[i] - max), take = std::exp(from.maxima[i] - max);
      whole_.maxima[i] = max;
      whole_.totals[i] = whole_.totals[i] * keep + from.totals[i] * take;
      float* to = whole_.sums + i * width_;
      const float* sums = from.sums + i * width_;
      for (int64_t d = 0; d < width_; ++d) to[d] = to[d] * keep + sums[d] * take;
    }
  }

  void RunSegment(int64_t segment, const Softmax& state) {
    constexpr int64_t kBlocks = kSegmentKeys / kKeyBlock;
    Clear(state);
    const int64_t first = std::max(FirstKey(0), segment * kSegmentKeys);
    const int64_t last = Position(task_.num_rows - 1);
    const int64_t last_block = std::min(last / kKeyBlock, segment * kBlocks + kBlocks - 1);
    for (int64_t block = first / kKeyBlock; block <= last_block; ++block) {
      const int64_t base = block * kKeyBlock;
      LoadBlock(block, static_cast<int>(std::max(first - base, int64_t{0})),
                static_cast<int>(std::min<int64_t>(last + 1 - base, kKeyBlock)));
      AskForNext(block, last / kKeyBlock);
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
        if (begin < end) AddBlock(state, row * group_, rows * group_, begin, end);
        row += rows;
      }
    }
  }

  int64_t Position(int row) const { return batch_.positions[task_.first_row + row]; }
  int64_t FirstKey(int row) const {
    return shape_.window > 0 ? std::max<int64_t>(0, Position(row) - shape_.window + 1) : 0;
  }

  void LoadQueries(Rows q) {
    for (int row = 0; row < task_.num_rows; ++row) {
      for (int i = 0; i < group_; ++i) {
        const int64_t index = row * group_ + i;
        const float* from =
            q.row(task_.first_row + row) + (int64_t{kv_head_} * group_ + i) * shape_.head_dim;
        float* to = queries_ + index * width_;
        std::copy_n(from, shape_.head_dim, to);
        std::fill(to + shape_.head_dim, to + width_, 0.0f);
      }
    }
  }

  // The sequence's block as it is read, but for its scales: as the cache has it, or as fp32, all of
  // its keys and slots [begin, end) of its values.
  void LoadBlock(int64_t block, int begin, int end) {
    const SequenceRows& sequence = batch_.sequences[task_.sequence];
    VERNIER_CHECK(block < sequence.num_blocks);
    const int64_t id = batch_.blocks[sequence.first_block + block];
    const KvTypeTraits& traits = TraitsOf(args_.kv_type);
    const auto load = runtime_.kernels->load[static_cast<int>(args_.kv_type)];
    const auto head = [&](int value, const float** scales) {
      uint8_t* at = runtime_.cache.head(id, args_.layer, value, kv_head_, shape_, args_.kv_type);
      if (traits.scale_bytes > 0) *scales = KvCache::scales(at, shape_, args_.kv_type);
      return at;
    };
    const uint8_t* keys = head(0, &key_scales_);
    const uint8_t* values = head(1, &value_scales_);
    if (read_as_ == args_.kv_type && width_ == shape_.head_dim) {
      block_keys_ = keys;
      block_values_ = values;
      return;
    }
    block_keys_ = keys_;
    block_values_ = values_;
    load(keys, int64_t{kKeyBlock} * shape_.head_dim, keys_);
    const int64_t row_bytes = int64_t{shape_.head_dim} * traits.value_bytes;
    if (width_ == shape_.head_dim) {
      load(values + begin * row_bytes, (end - begin) * width_, values_ + begin * width_);
      return;
    }
    for (int j = begin; j < end; ++j) {
      load(values + j * row_bytes, shape_.head_dim, values_ + j * width_);
      std::fill(values_ + j * width_ + shape_.head_dim, values_ + (j + 1) * width_, 0.0f);
    }
  }

  // Asks for the block that is read after `block`, the next one of this head or the first one of
  // the next head, while this one is computed with.
  void AskForNext(int64_t block, int64_t last_block) const {
    const bool same_head = block < last_block;
    const int head = same_head ? kv_head_ : kv_head_ + 1;
    const int64_t next = same_head ? block + 1 : FirstKey(0) / kKeyBlock;
    if (head == shape_.num_kv_heads) return;
    const SequenceRows& sequence = batch_.sequences[task_.sequence];
    const int64_t id = batch_.blocks[sequence.first_block + next];
    const int64_t bytes = KvHeadBytes(shape_, args_.kv_type);
    for (const int value : {0, 1}) {
      const uint8_t* at = runtime_.cache.head(id, args_.layer, value, head, shape_, args_.kv_type);
      for (int64_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(at + i, 0, 2);
    }
  }

  // Keys [begin, end) of the block, for `count` queries. Scores of the other slots may be anything.
  void AddBlock(const Softmax& state, int64_t first, int64_t count, int begin, int end) {
    const KernelTable& kernels = *runtime_.kernels;
    const auto score_keys = kernels.score_keys[static_cast<int>(read_as_)];
    const auto add_values = kernels.add_values[static_cast<int>(read_as_)];
    // body(first query, queries) for each `at_once` of `queries`.
    const auto by = [](int at_once, int queries, const auto& body) {
      for (int j = 0; j < queries; j += at_once) body(j, std::min(at_once, queries - j));
    };
    for (int64_t i = first; i < first + count; i += kSoftenedAtOnce) {
      const auto some = static_cast<int>(std::min<int64_t>(kSoftenedAtOnce, first + count - i));
      by(kernels.max_queries, some, [&](int j, int queries) {
        score_keys({.count = queries,
                    .q = queries_ + (i + j) * width_,
                    .q_stride = width_,
                    .n = shape_.head_dim,
                    .keys = block_keys_,
                    .scales = key_scales_,
                    .scale = shape_.scale,
                    .scores = scores_ + j * kKeyBlock});
      });
      kernels.soften({.count = some,
                      .scores = scores_,
                      .scales = value_scales_,
                      .first = begin,
                      .last = end,
                      .max = state.maxima + i,
                      .total = state.totals + i,
                      .keep = keep_});
      by(kernels.max_queries, some, [&](int j, int queries) {
        add_values({.count = queries,
                    .p = scores_ + j * kKeyBlock,
                    .first = begin,
                    .last = end,
                    .values = block_values_,
                    .n = width_,
                    .keep = keep_ + j,
                    .sums = state.sums + (i + j) * width_});
      });
    }
  }

  void Store(Rows a) {
    const int64_t cols = int64_t{shape_.num_heads} * shape_.head_dim;
    for (int row = 0; row < task_.num_rows; ++row) {
      float* out = a.row(task_.first_row + row);
      for (int i = 0; i < group_; ++i) {
        const int64_t index = row * group_ + i;
        const float* from = whole_.sums + index * width_;
        float* to = out + (int64_t{kv_head_} * group_ + i) * shape_.head_dim;
        for (int d = 0; d < shape_.head_dim; ++d) to[d] = from[d] / whole_.totals[index];
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
  const int group_;                               // query heads of the kv head
  const int64_t width_;                           // head_dim to a multiple of kChunk
  float* keys_;                                   // [head_dim, kKeyBlock]
  float* values_;                                 // [kKeyBlock, width_]
  float* queries_;                                // [num_rows * group_, width_]
  float* scores_;                                 // [kSoftenedAtOnce, kKeyBlock]
  float* keep_;                                   // [kSoftenedAtOnce]
  KvType read_as_;                                // type of ...
  const void* block_keys_ = nullptr;              // ... [head_dim, kKeyBlock]
  const void* block_values_ = nullptr;            // ... [kKeyBlock, width_]
  const float* key_scales_ = kNoScales.data();    // [kKeyBlock]
  const float* value_scales_ = kNoScales.data();  // [kKeyBlock]
  Softmax segment_, whole_;
};

// Where there are too few tasks for the threads, the segments of single rows are shared out too.
// Returns the most segments that a task has, or 0 to leave tasks whole.
int64_t SegmentsToShare(const AttentionRuntime& runtime, const Batch& batch,
                        const std::vector<AttentionTask>& tasks, int64_t items) {
  if (items >= 2 * int64_t{runtime.pool->threads()}) return 0;
  int64_t most = 0;
  for (const AttentionTask& task : tasks) {
    if (task.num_rows > 1) return 0;
    most = std::max<int64_t>(most, batch.positions[task.first_row] / kSegmentKeys + 1);
  }
  return most > 1 && items * most <= runtime.num_parts ? most : 0;
}

}  // namespace

int64_t AttentionScratchFloats(const AttentionShape& shape) {
  const int64_t width = PaddedHead(shape);
  const int64_t queries = CheckedMultiply(shape.num_heads / shape.num_kv_heads, kAttentionTaskRows);
  constexpr int64_t block = int64_t{kSoftenedAtOnce} * (kKeyBlock + 1);
  const int64_t rows = CheckedMultiply(CheckedAdd(2 * kKeyBlock, queries), width);
  const int64_t states = CheckedMultiply(2, Softmax::Floats(queries, width));
  return CheckedRoundUp(CheckedAdd(CheckedAdd(rows, states), block), kChunk);
}

int64_t AttentionPartFloats(const AttentionShape& shape) {
  return CheckedRoundUp(Softmax::Floats(shape.num_heads / shape.num_kv_heads, PaddedHead(shape)),
                        kChunk);
}

int64_t AttentionParts(int threads, int64_t max_context) {
  if (threads == 1) return 0;
  const int64_t segments = max_context / kSegmentKeys + 1;
  return std::min(CheckedMultiply(segments, 2 * int64_t{threads}), kMaxAttentionParts);
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
  const int64_t kv_heads = args.shape.num_kv_heads;
  const int64_t items = static_cast<int64_t>(tasks.size()) * kv_heads;
  // body(item's task, item, i) for i of [0, parts) of each item. Later rows have more keys, so the
  // threads take turns rather than ranges.
  const auto for_items = [&](int64_t parts, const auto& body) {
    const int64_t count = items * parts;
    const int64_t threads = std::min<int64_t>(runtime.pool->threads(), count);
    runtime.pool->ParallelFor(threads, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t turn = begin; turn < end; ++turn) {
        for (int64_t i = turn; i < count; i += threads) {
          const int64_t item = i / parts;
          HeadTask task(runtime, batch, args, tasks[item / kv_heads],
                        static_cast<int>(item % kv_heads), runtime.scratch.row(thread));
          body(&task, item, i % parts);
        }
      }
    });
  };
  const int64_t segments = SegmentsToShare(runtime, batch, tasks, items);
  if (segments == 0) {
    for_items(1, [&](HeadTask* task, int64_t, int64_t) { task->Run(q, a); });
    return;
  }
  for_items(segments, [&](HeadTask* task, int64_t item, int64_t i) {
    if (i > task->last_segment() - task->first_segment()) return;
    task->RunPart(q, task->first_segment() + i, runtime.parts.row(item * segments + i));
  });
  for_items(1, [&](HeadTask* task, int64_t item, int64_t) {
    task->MergeParts(runtime.parts.From(item * segments), a);
  });
}

}  // namespace vernier
