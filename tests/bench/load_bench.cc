// How fast a model loads, beside the storage that it is read from, and the memory that it takes
// meanwhile.
//
// Validates first: the files must be gone from the page cache before a cold figure is taken, and a
// loaded model must hold the bytes that its formats say. Then times, alternately: a plain parallel
// read of the files, cold; loading, cold; loading with the files in the page cache. Each figure is
// a median with its spread.
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/model/model.h"
#include "kernels/cpu_isas.h"
#include "kernels/make_backend.h"
#include "tests/bench/machine.h"

namespace vernier::bench {
namespace {

constexpr double kMB = 1e6;
constexpr int kReaders = 4;
constexpr int64_t kPiece = 8 << 20;

struct Options {
  std::string model;
  std::vector<std::string> variants{"fp16", "fp16+int8+nf4"};
  std::string isa = "auto";
  int threads = 0;
  int repeats = 3;
};

struct File {
  std::string path;
  int64_t bytes = 0;
};

std::vector<File> WeightFiles(const std::string& model) {
  std::vector<File> files;
  if (!std::filesystem::is_directory(model)) {
    files.push_back({model, static_cast<int64_t>(std::filesystem::file_size(model))});
    return files;
  }
  for (const auto& entry : std::filesystem::directory_iterator(model)) {
    if (entry.path().extension() != ".safetensors") continue;
    if (entry.path().filename() == "expected.safetensors") continue;
    files.push_back({entry.path().string(), static_cast<int64_t>(entry.file_size())});
  }
  return files;
}

absl::Status CannotOpen(const File& file) {
  return absl::ErrnoToStatus(errno, absl::StrCat("opening ", file.path));
}

// The share of the file's pages that the page cache holds.
absl::StatusOr<double> Cached(const File& file) {
  const int descriptor = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return CannotOpen(file);
  const auto close_it = absl::MakeCleanup([&] { close(descriptor); });
  const auto bytes = static_cast<size_t>(file.bytes);
  void* const mapped = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) return absl::ErrnoToStatus(errno, "mmap");
  std::vector<unsigned char> resident((bytes + 4095) / 4096);
  const int failed = mincore(mapped, bytes, resident.data());
  munmap(mapped, bytes);
  if (failed != 0) return absl::ErrnoToStatus(errno, "mincore");
  const auto held = std::count_if(resident.begin(), resident.end(), [](auto p) { return p & 1; });
  return static_cast<double>(held) / static_cast<double>(resident.size());
}

// FAILED_PRECONDITION where the system keeps the pages: a figure would not be cold.
absl::Status Evict(const std::vector<File>& files) {
  for (const File& file : files) {
    const int descriptor = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return CannotOpen(file);
    fdatasync(descriptor);
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    close(descriptor);
    const absl::StatusOr<double> cached = Cached(file);
    if (!cached.ok()) return cached.status();
    if (*cached > 0.01) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "%.0f %% of %s stay in the page cache: not cold", 100 * *cached, file.path));
    }
  }
  return absl::OkStatus();
}

// Every byte of the files, once, by `kReaders` threads: seconds. As fast as a reader without
// anything else to do.
absl::StatusOr<double> ReadAll(const std::vector<File>& files) {
  const double start = SecondsNow();
  for (const File& file : files) {
    const int descriptor = open(file.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return CannotOpen(file);
    const int64_t share = (file.bytes + kReaders - 1) / kReaders;
    std::vector<std::thread> readers;
    std::vector<char> failed(kReaders, 0);
    for (int r = 0; r < kReaders; ++r) {
      readers.emplace_back([&, r] {
        std::vector<char> buffer(kPiece);
        const int64_t end = std::min(file.bytes, (r + 1) * share);
        for (int64_t at = r * share; at < end;) {
          const ssize_t got = pread(descriptor, buffer.data(), std::min(kPiece, end - at), at);
          if (got <= 0) {
            failed[r] = 1;
            return;
          }
          at += got;
        }
      });
    }
    for (std::thread& reader : readers) reader.join();
    close(descriptor);
    if (std::find(failed.begin(), failed.end(), 1) != failed.end()) {
      return absl::DataLossError(absl::StrCat("reading ", file.path));
    }
  }
  return SecondsNow() - start;
}

struct Load {
  double seconds = 0;
  int64_t peak_bytes = 0;   // resident, above what was resident before
  int64_t model_bytes = 0;  // weights, as the model accounts for them
};

absl::StatusOr<Load> LoadOnce(const Options& options, const std::string& variants) {
  std::vector<VariantSpec> specs;
  for (const absl::string_view name : absl::StrSplit(variants, '+')) {
    const absl::StatusOr<FormatId> format = ParseFormat(name);
    if (!format.ok()) return format.status();
    specs.push_back(DefaultVariant(*format));
  }
  const absl::StatusOr<std::unique_ptr<Backend>> backend =
      MakeBackend({.kind = "cpu", .isa = options.isa, .threads = options.threads});
  if (!backend.ok()) return backend.status();
  malloc_trim(0);  // what an earlier load has left would hide what this one takes
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM begins anew
  const int64_t before = ProcessBytes("VmRSS");
  const double start = SecondsNow();
  const auto model = LoadModel(options.model, "bench", specs, backend->get(), nullptr);
  if (!model.ok()) return model.status();
  const Load load{SecondsNow() - start, ProcessBytes("VmHWM") - before,
                  (*model)->memory.weight_bytes};
  if (load.model_bytes > load.peak_bytes) {
    return absl::InternalError(absl::StrCat("the model has ", load.model_bytes,
                                            " bytes, the process grew by ", load.peak_bytes,
                                            " at most: no peak"));
  }
  return load;
}

absl::Status Measure(const Options& options, const std::vector<File>& files, double bytes,
                     const std::string& variants) {
  std::vector<double> storage, cold, warm;
  Load last;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    if (absl::Status status = Evict(files); !status.ok()) return status;
    const absl::StatusOr<double> read = ReadAll(files);
    if (!read.ok()) return read.status();
    storage.push_back(*read);
    if (absl::Status status = Evict(files); !status.ok()) return status;
    for (std::vector<double>* const into : {&cold, &warm}) {
      const absl::StatusOr<Load> load = LoadOnce(options, variants);
      if (!load.ok()) return load.status();
      into->push_back(load->seconds);
      last = *load;
    }
  }
  const Timing s = Summarize(storage), c = Summarize(cold), w = Summarize(warm);
  std::cout << absl::StrFormat("%s,%.0f,%.0f,%.3f,%.0f,%.0f,%.0f,%.3f,%.0f,%.0f,%.0f\n", variants,
                               bytes / kMB, bytes / kMB / s.median_seconds, c.median_seconds,
                               c.spread_percent, bytes / kMB / c.median_seconds,
                               100 * s.median_seconds / c.median_seconds, w.median_seconds,
                               w.spread_percent, static_cast<double>(last.model_bytes) / kMB,
                               static_cast<double>(last.peak_bytes) / kMB);
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  const std::vector<File> files = WeightFiles(options.model);
  double bytes = 0;
  for (const File& file : files) bytes += static_cast<double>(file.bytes);
  std::cout << "# date: " << Today() << "\n# processor: " << ProcessorName() << ", "
            << std::thread::hardware_concurrency() << " logical cores\n# threads: "
            << (options.threads == 0 ? "all" : absl::StrCat(options.threads))
            << "\nvariants,file_mb,storage_mb_s,cold_s,cold_spread_percent,cold_mb_s,"
               "percent_of_storage,warm_s,warm_spread_percent,model_mb,peak_mb\n";
  for (const std::string& variants : options.variants) {
    if (absl::Status status = Measure(options, files, bytes, variants); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) {
  vernier::bench::Options options;
  CLI::App app{"How fast a model loads, beside the storage that it is read from"};
  app.add_option("--model", options.model, "GGUF file or Hugging Face folder")
      ->required()
      ->check(CLI::ExistingPath);
  app.add_option("--variants", options.variants, "Sets of formats, as fp16+int8")->delimiter(',');
  app.add_option("--isa", options.isa, vernier::ListCpuIsaChoices());
  app.add_option("--threads", options.threads, "0: all processors")->check(CLI::Range(0, 1024));
  app.add_option("--repeats", options.repeats, "The median counts")->check(CLI::Range(1, 100));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = vernier::bench::Run(options);
  if (!status.ok()) std::cerr << "load_bench: " << status << "\n";
  return status.ok() ? 0 : 1;
}
