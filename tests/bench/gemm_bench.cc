// gemm_bench: the quantized GEMMs against cuBLASLt's 16-bit one, shape by shape and layer by layer.
//
// Validates against a reference in double, then times: CUDA graphs, random data, weights rotated
// over more than four times L2, contestants in turn, medians. Ratios are of times measured in this
// run.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/bench/gemm_bench_device.h"

namespace vernier::bench {
namespace {

// The GEMMs of one layer, QKV and gate+up fused.
const std::vector<GemmShape> kLayer8B = {{"8b.qkv", 6144, 4096},
                                         {"8b.o", 4096, 4096},
                                         {"8b.gate_up", 28672, 4096},
                                         {"8b.down", 4096, 14336}};
const std::vector<GemmShape> kLayer70B = {{"70b.qkv", 10240, 8192},
                                          {"70b.o", 8192, 8192},
                                          {"70b.gate_up", 57344, 8192},
                                          {"70b.down", 8192, 28672}};

struct NamedTiming {
  const char* name;
  const GemmTiming* timing;
  bool ours = false;
};

// Those that were timed.
std::vector<NamedTiming> KernelsOf(const GemmMeasurement& result) {
  const NamedTiming all[] = {{"cublaslt", &result.cublas},       {"nf4", &result.nf4, true},
                             {"int4", &result.int4, true},       {"int8", &result.int8, true},
                             {"int8+a8", &result.int8_a8, true}, {"16bit", &result.values, true},
                             {"bnb-nf4", &result.bitsandbytes},  {"marlin", &result.marlin},
                             {"lt-int8", &result.cublas_int8}};
  std::vector<NamedTiming> timed;
  for (const NamedTiming& each : all) {
    if (each.timing->us > 0) timed.push_back(each);
  }
  return timed;
}

struct Printer {
  bool csv = false;
  double read_bytes_per_second = 0;
  bool valid = true;  // all that is ours

  void Header() const {
    std::puts(csv ? "shape,outputs,inputs,rows,kernel,us,us_p10,us_p90,tb_per_s,tflop_per_s,"
                    "ratio_to_cublaslt,percent_of_read,error,error_limit,bits_equal"
                  : "shape          rows kernel         us  p10..p90       TB/s  TFLOP/s  ratio  "
                    "%read    error");
  }

  void Row(const std::string& shape, int64_t outputs, int64_t inputs, int rows,
           const NamedTiming& kernel, double flops, double cublas_us) {
    const GemmTiming& timing = *kernel.timing;
    const double tb = timing.weight_bytes / timing.us * 1e-6;
    const double tflops = flops / timing.us * 1e-6;
    const double percent = 1e14 * tb / read_bytes_per_second;
    if (kernel.ours) valid = valid && timing.error <= timing.error_limit && timing.bits_equal;
    if (csv) {
      std::printf("%s,%ld,%ld,%d,%s,%.3f,%.3f,%.3f,%.4f,%.2f,%.4f,%.2f,%.3g,%.3g,%d\n",
                  shape.c_str(), static_cast<long>(outputs), static_cast<long>(inputs), rows,
                  kernel.name, timing.us, timing.us_low, timing.us_high, tb, tflops,
                  cublas_us / timing.us, percent, timing.error, timing.error_limit,
                  static_cast<int>(timing.bits_equal));
    } else {
      std::printf("%-14s %4d %-9s %8.2f %6.2f..%6.2f %6.3f %8.1f %6.2f %5.1f%% %9.2e%s%s\n",
                  shape.c_str(), rows, kernel.name, timing.us, timing.us_low, timing.us_high, tb,
                  tflops, cublas_us / timing.us, percent, timing.error,
                  timing.error <= timing.error_limit ? "" : " WRONG",
                  timing.bits_equal ? "" : " NOT REPEATED");
    }
    std::fflush(stdout);
  }
};

void RunShapes(const std::vector<GemmShape>& shapes, const std::string& model, int rows, bool layer,
               const GemmOptions& options, Printer* printer) {
  double log_nf4 = 0, log_int8 = 0, weights = 0;
  for (const GemmShape& shape : shapes) {
    const double flops = 2.0 * rows * shape.outputs * shape.inputs;
    weights += static_cast<double>(shape.outputs) * shape.inputs;
    const GemmMeasurement result = MeasureShape(shape, rows, options);
    const double cublas_us = result.cublas.us;
    GemmTiming first = result.cublas;
    first.us = first.us_low = first.us_high = result.cublas_first_us;
    const auto row = [&](const NamedTiming& kernel) {
      printer->Row(shape.name, shape.outputs, shape.inputs, rows, kernel, flops, cublas_us);
    };
    row({"lt-first", &first});
    for (const NamedTiming& kernel : KernelsOf(result)) row(kernel);
    log_nf4 += std::log(cublas_us / result.nf4.us);
    log_int8 += std::log(cublas_us / result.int8.us);
  }
  const double count = static_cast<double>(shapes.size());
  if (!printer->csv) {
    std::printf("%s rows %d: geomean ratio to cublaslt  nf4 %.3f  int8 %.3f\n", model.c_str(), rows,
                std::exp(log_nf4 / count), std::exp(log_int8 / count));
  }
  if (!layer) return;
  const GemmMeasurement result = MeasureLayer(shapes, rows, options);
  for (const NamedTiming& kernel : KernelsOf(result)) {
    printer->Row(model + ".layer", 0, 0, rows, kernel, 2.0 * rows * weights, result.cublas.us);
  }
}

struct FormatName {
  const char* name;
  GemmFormat format;
};
constexpr FormatName kFormatNames[] = {{"nf4", GemmFormat::kNf4},
                                       {"int4", GemmFormat::kInt4},
                                       {"int8", GemmFormat::kInt8},
                                       {"int8+a8", GemmFormat::kInt8A8},
                                       {"16bit", GemmFormat::kValues}};

// Every plan of every shape, as CSV: what the table of kernels/cuda/gemm_wide_plan.cc is chosen
// from.
bool Tune(const std::vector<GemmShape>& shapes, const std::vector<int>& rows,
          const std::vector<std::string>& formats, const GemmOptions& options) {
  std::puts(
      "shape,outputs,inputs,rows,format,kernel,tile_tokens,cluster,slices,cuts,us,us_p10,us_p90,"
      "error,"
      "valid");
  bool valid = true;
  for (const int count : rows) {
    for (const GemmShape& shape : shapes) {
      for (const auto& [name, format] : kFormatNames) {
        if (std::find(formats.begin(), formats.end(), name) == formats.end()) continue;
        if (format == GemmFormat::kValues && count > kMostValueRows) continue;
        for (const PlanTiming& plan : MeasurePlans(shape, count, format, options)) {
          const GemmTiming& t = plan.timing;
          const bool good = t.error <= t.error_limit && t.bits_equal;
          valid = valid && good;
          std::printf("%s,%d,%d,%d,%s,%s,%d,%d,%d,%d,%.3f,%.3f,%.3f,%.3g,%d\n", shape.name,
                      shape.outputs, shape.inputs, count, name, plan.kernel, plan.tile_tokens,
                      plan.cluster, plan.slices, plan.cuts, t.us, t.us_low, t.us_high, t.error,
                      static_cast<int>(good));
          std::fflush(stdout);
        }
      }
    }
  }
  return valid;
}

int Main(int argc, char** argv) {
  CLI::App app("Quantized GEMM against cuBLASLt 16-bit");
  std::vector<int> rows = {1, 2, 4, 8, 16};
  std::vector<std::string> formats = {"nf4", "int4", "int8", "int8+a8", "16bit"};
  std::string model = "8b";
  std::string only;
  GemmShape custom = {"custom", 0, 0};
  bool layer = true;
  bool tune = false;
  bool validate_only = false;
  GemmOptions options;
  Printer printer;
  app.add_option("--rows", rows, "rows of x")->delimiter(',')->check(CLI::Range(1, 8192));
  app.add_option("--model", model, "shapes: 8b or 70b")->check(CLI::IsMember({"8b", "70b"}));
  app.add_option("--shape", only, "one shape alone, such as 8b.o; no layer then");
  app.add_option("--outputs", custom.outputs, "with --inputs: a shape of one's own, no layer then")
      ->check(CLI::Range(1, 262144));
  app.add_option("--inputs", custom.inputs, "a multiple of 64")->check(CLI::Range(64, 65536));
  app.add_option("--layer", layer, "also time the four GEMMs one after the other");
  app.add_option("--replays", options.replays, "of each graph")->check(CLI::Range(3, 1000));
  app.add_option("--cublaslt-candidates", options.cublas_candidates,
                 "heuristics timed, the fastest is the baseline")
      ->check(CLI::Range(1, 32));
  app.add_option("--bitsandbytes", options.bitsandbytes,
                 "also its NF4: path of libbitsandbytes_cuda130.so (gemm_rivals.sh)");
  app.add_option("--marlin", options.marlin,
                 "also its int4: path of libmarlin.so (gemm_rivals.sh)");
  app.add_flag("--bf16", options.bf16, "activations and outputs in bf16 instead of fp16");
  app.add_option("--formats", formats,
                 "with --tune or --validate-only: nf4, int4, int8, int8+a8, 16bit")
      ->delimiter(',')
      ->check(CLI::IsMember({"nf4", "int4", "int8", "int8+a8", "16bit"}));
  app.add_flag("--tune", tune, "time every plan of our kernels instead, as CSV");
  app.add_flag(
      "--validate-only", validate_only,
      "run every plan of our kernels and compare, untimed: small enough for compute-sanitizer");
  app.add_flag("--csv", printer.csv, "comma-separated rows");
  CLI11_PARSE(app, argc, argv);

  std::vector<GemmShape> shapes;
  for (const GemmShape& shape : model == "8b" ? kLayer8B : kLayer70B) {
    if (only.empty() || only == shape.name) shapes.push_back(shape);
  }
  const bool own = custom.outputs > 0 && custom.inputs > 0;
  if (own) shapes = {custom};
  if (shapes.empty()) {
    std::fprintf(stderr, "no shape %s in %s\n", only.c_str(), model.c_str());
    return 2;
  }
  if (validate_only) {
    options.replays = 0;
    return Tune(shapes, rows, formats, options) ? 0 : 1;
  }
  const DeviceFacts facts = MeasureDevice();
  std::fprintf(stderr, "%s, %d multiprocessors, L2 %.0f MB, at most %d MHz; reads %.3f TB/s\n",
               facts.name.c_str(), facts.multiprocessors, facts.l2_bytes * 1e-6, facts.sm_clock_mhz,
               facts.read_bytes_per_second * 1e-12);
  if (tune) return Tune(shapes, rows, formats, options) ? 0 : 1;
  printer.read_bytes_per_second = facts.read_bytes_per_second;
  printer.Header();
  for (const int count : rows) {
    RunShapes(shapes, model, count, layer && only.empty() && !own, options, &printer);
  }
  return printer.valid ? 0 : 1;
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) { return vernier::bench::Main(argc, argv); }
