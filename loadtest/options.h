// What the command line asked for.
#pragma once

#include <string>
#include <vector>

#include "loadtest/arrivals.h"
#include "loadtest/report/knee.h"
#include "loadtest/report/summary.h"
#include "loadtest/workload.h"

namespace vernier::loadtest {

struct ServerOptions {
  std::string address = "127.0.0.1:50051";
  std::string metrics;       // HOST:PORT of the metrics page; empty: no timeline
  int channels = 8;          // connections: one carries 256 calls at once
  std::string retry_policy;  // a gRPC service config as JSON; empty: no retries
  // PEM: who signed the server's certificate (empty: no TLS), and an own one with its key, for a
  // server that asks (empty: none).
  std::string ca, certificate, key;
  std::string api_key;  // sent with each call; empty: none
};

// One run against the server.
struct RunOptions {
  ArrivalOptions arrivals;      // of an open loop; `seconds` with the warm-up
  bool replay = false;          // the workload's trace says when: `arrivals.rate` is its mean then
  int concurrency = 0;          // > 0: a closed loop of so many clients
  double warmup_seconds = 5;    // sent like the rest, not counted
  double deadline_seconds = 0;  // of each call; 0: none
  double give_up_seconds = 60;  // after the last arrival: what still runs is cancelled
  float temperature = 0;
};

struct OutputOptions {
  std::string json, csv, html;  // paths; empty: not written
  bool quiet = false;           // no live progress
};

enum class Verb { kRun, kSweep, kCompare };

struct CommandLine {
  Verb verb = Verb::kRun;
  ServerOptions server;
  WorkloadOptions workload;  // without the server's limits
  RunOptions run;
  Slo slo;
  SweepOptions sweep;
  std::vector<double> rates;  // of a sweep; none: it finds the knee
  OutputOptions output;
  std::string before, after;  // of compare
};

}  // namespace vernier::loadtest
