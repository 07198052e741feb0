// Any bytes as config.json, generation_config.json and tokenizer_config.json of one folder: refused
// with a reason, or the hyperparameters are such that a model can be made of them.
#include <unistd.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/hf_text.h"
#include "kernels/base/check.h"
#include "tests/fuzz/memory_file.h"

namespace {

// A folder whose three files are one, so that an input needs no format of its own.
class Folder {
 public:
  Folder() {
    VERNIER_CHECK(mkdtemp(path_) != nullptr);
    for (const char* name : kNames) {
      VERNIER_CHECK(symlink(file_.path().c_str(), (path_ + std::string(name)).c_str()) == 0);
    }
  }
  ~Folder() {
    for (const char* name : kNames) unlink((path_ + std::string(name)).c_str());
    rmdir(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path() const { return path_; }
  void Set(const uint8_t* data, size_t size) { file_.Set(data, size); }

 private:
  static constexpr const char* kNames[] = {"/config.json", "/generation_config.json",
                                           "/tokenizer_config.json"};

  vernier::testing::MemoryFile file_;
  char path_[32] = "/tmp/hf_config_fuzz.XXXXXX";
};

void CheckConfig(const vernier::HfConfig& read) {
  VERNIER_CHECK(read.architecture != nullptr);
  const vernier::ModelConfig& config = read.config;
  VERNIER_CHECK(config.vocab > 0 && config.hidden > 0 && config.context > 0);
  VERNIER_CHECK(config.Parameters() > 0);
  for (const float frequency : config.inverse_frequencies) VERNIER_CHECK(std::isfinite(frequency));
  for (const int32_t id : config.end_tokens) VERNIER_CHECK(id >= 0 && id < config.vocab);
  if (read.quantization.method == vernier::QuantMethod::kNone) return;
  VERNIER_CHECK(!vernier::QuantMethodName(read.quantization.method).empty());
  VERNIER_CHECK(read.quantization.group >= 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder folder;
  folder.Set(data, size);
  const auto config = vernier::ReadHfConfig(folder.path());
  if (config.ok()) {
    CheckConfig(*config);
  } else {
    VERNIER_CHECK(!config.status().message().empty());
  }
  const auto text = vernier::ReadHfText(folder.path());
  VERNIER_CHECK(text.ok() || !text.status().message().empty());
  return 0;
}
