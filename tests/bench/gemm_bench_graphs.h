// How gemm_bench times: launches recorded as CUDA graphs, replayed in turn.
//
// A CUDA or cuBLASLt error ends the program with its place. One thread.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "tests/bench/gemm_bench_device.h"

#define BENCH_CHECK(call)                                               \
  do {                                                                  \
    const auto bench_error = (call);                                    \
    if (static_cast<int>(bench_error) != 0) {                           \
      std::fprintf(stderr, "%s:%d: error %d: %s\n", __FILE__, __LINE__, \
                   static_cast<int>(bench_error), #call);               \
      std::exit(1);                                                     \
    }                                                                   \
  } while (false)

namespace vernier::bench {

using Launch = std::function<void(int copy, cudaStream_t stream)>;

struct Graph {
  cudaGraphExec_t executable = nullptr;
  int launches = 0;
  std::vector<double> us;  // a launch, each replay

  ~Graph() {
    if (executable != nullptr) cudaGraphExecDestroy(executable);
  }
};

inline std::unique_ptr<Graph> Capture(const Launch& launch, int copies, int launches,
                                      cudaStream_t stream) {
  auto graph = std::make_unique<Graph>();
  graph->launches = launches;
  cudaGraph_t captured = nullptr;
  BENCH_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) launch(i % copies, stream);
  BENCH_CHECK(cudaStreamEndCapture(stream, &captured));
  BENCH_CHECK(cudaGraphInstantiate(&graph->executable, captured, 0));
  BENCH_CHECK(cudaGraphDestroy(captured));
  return graph;
}

// Replays the graphs in turn, so that all see the same clocks.
inline void Replay(const std::vector<Graph*>& graphs, int replays, cudaStream_t stream) {
  cudaEvent_t begin, end;
  BENCH_CHECK(cudaEventCreate(&begin));
  BENCH_CHECK(cudaEventCreate(&end));
  constexpr int kWarmUps = 2;
  for (int i = 0; i < kWarmUps + replays; ++i) {
    for (Graph* graph : graphs) {
      BENCH_CHECK(cudaEventRecord(begin, stream));
      BENCH_CHECK(cudaGraphLaunch(graph->executable, stream));
      BENCH_CHECK(cudaEventRecord(end, stream));
      BENCH_CHECK(cudaEventSynchronize(end));
      float ms = 0;
      BENCH_CHECK(cudaEventElapsedTime(&ms, begin, end));
      if (i >= kWarmUps) graph->us.push_back(ms * 1e3 / graph->launches);
    }
  }
  BENCH_CHECK(cudaEventDestroy(begin));
  BENCH_CHECK(cudaEventDestroy(end));
}

inline void Summarize(Graph* graph, GemmTiming* timing) {
  std::sort(graph->us.begin(), graph->us.end());
  const auto at = [&](double share) {
    return graph->us[static_cast<size_t>(share * static_cast<double>(graph->us.size() - 1))];
  };
  timing->us = at(0.5);
  timing->us_low = at(0.1);
  timing->us_high = at(0.9);
}

// Graphs that are timed in turn, and where their times go.
struct Timed {
  std::unique_ptr<Graph> graph;
  GemmTiming* timing;
};

inline void TimeInTurn(const std::vector<Timed>& all, int replays, cudaStream_t stream) {
  std::vector<Graph*> graphs;
  for (const Timed& each : all) graphs.push_back(each.graph.get());
  Replay(graphs, replays, stream);
  for (const Timed& each : all) Summarize(each.graph.get(), each.timing);
}

}  // namespace vernier::bench
