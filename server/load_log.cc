#include "server/load_log.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace vernier {
namespace {

constexpr absl::Duration kInterval = absl::Seconds(2);

double Megabytes(int64_t bytes) { return static_cast<double>(bytes) * 1e-6; }

}  // namespace

std::optional<std::string> LoadLog::Next(const LoadProgress& progress, absl::Duration now) {
  progress_ = progress;
  if (now - last_ < kInterval) return std::nullopt;
  last_ = now;
  std::string line = absl::StrFormat(
      "loading: %.1f of %.1f MB, tensor %d of %d", Megabytes(progress.bytes_done),
      Megabytes(progress.bytes_total), progress.tensors_done, progress.tensors_total);
  // As fast as until now; before the first byte nobody knows.
  if (progress.bytes_done > 0) {
    const double share =
        static_cast<double>(progress.bytes_total) / static_cast<double>(progress.bytes_done);
    absl::StrAppendFormat(&line, " (%.0f %%), %.0f s left", 100 / share,
                          absl::ToDoubleSeconds(now - began_) * (share - 1));
  }
  return line;
}

std::string LoadLog::Last(const Model& model, absl::Duration now) const {
  const double seconds = absl::ToDoubleSeconds(now - began_);
  return absl::StrFormat(
      "loaded %.1f MB of weights in %.2f s%s, integrity: %s", Megabytes(progress_.bytes_total),
      seconds,
      seconds > 0 ? absl::StrFormat(" (%.0f MB/s)", Megabytes(progress_.bytes_total) / seconds)
                  : "",
      IntegrityName(model.integrity));
}

}  // namespace vernier
