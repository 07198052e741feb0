// Times a tokenizer on one thread: megabytes of text encoded a second, and tokens decoded.
//
// The text is encoded in documents, its lines of a good size, as prompts come: each call allocates
// its own result.
#include <CLI/CLI.hpp>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/text/tokenizer.h"
#include "tests/bench/machine.h"

namespace vernier::bench {
namespace {

using Ids = std::vector<int32_t>;

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// A folder with tokenizer.json, such a file, or a tokenizer.model.
TokenizerSource SourceAt(std::string path) {
  TokenizerSource source;
  if (std::filesystem::is_directory(path)) path += "/tokenizer.json";
  if (path.ends_with(".json")) {
    source.kind = TokenizerSource::Kind::kHuggingFace;
    source.tokenizer_json = ReadText(path);
  } else {
    source.kind = TokenizerSource::Kind::kSentencePiece;
    source.sentencepiece_model = ReadText(path);
  }
  return source;
}

// Whole lines, each document of at least `bytes` but the last.
std::vector<std::string> Documents(const std::string& text, size_t bytes) {
  std::vector<std::string> documents;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin + bytes);
    documents.push_back(text.substr(begin, end == std::string::npos ? end : end + 1 - begin));
    begin += documents.back().size();
  }
  return documents;
}

absl::StatusOr<std::vector<Ids>> EncodeAll(const Tokenizer& tokenizer,
                                           const std::vector<std::string>& documents) {
  std::vector<Ids> all;
  for (const std::string& document : documents) {
    auto ids = tokenizer.Encode(document, Tokenizer::Special::kAsText, Tokenizer::Begin::kNever);
    if (!ids.ok()) return ids.status();
    all.push_back(*std::move(ids));
  }
  return all;
}

// Documents that decode to their text again. All do, but where a normalizer changes text.
size_t CountBack(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                 const std::vector<Ids>& ids) {
  size_t count = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    count += tokenizer.Decode(ids[i], false) == documents[i] ? 1 : 0;
  }
  return count;
}

// Of this thread, so that a neighbour on the machine costs little.
double CpuSecondsNow() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

template <typename Work>
Timing TimeRounds(int rounds, const Work& work) {
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    const double start = CpuSecondsNow();
    work();
    seconds.push_back(CpuSecondsNow() - start);
  }
  return Summarize(seconds);
}

int Fail(const std::string& message) {
  std::cerr << "tokenizer_bench: " << message << "\n";
  return 1;
}

int Run(int argc, char** argv) {
  std::string path, text_path, ids_path;
  size_t document_bytes = 4096;
  int rounds = 7;
  CLI::App app("Times a tokenizer on one thread.");
  app.add_option("--tokenizer", path, "folder, tokenizer.json or tokenizer.model")->required();
  app.add_option("--text", text_path, "UTF-8 text")->required();
  app.add_option("--document-bytes", document_bytes, "least bytes of a document");
  app.add_option("--rounds", rounds, "timed rounds")->check(CLI::Range(1, 1000));
  app.add_option("--ids", ids_path, "write the ids here, a document a line");
  CLI11_PARSE(app, argc, argv);

  const auto tokenizer = Tokenizer::Create(SourceAt(path));
  if (!tokenizer.ok()) return Fail(std::string(tokenizer.status().message()));
  const std::string text = ReadText(text_path);
  if (text.empty()) return Fail("no text");
  const std::vector<std::string> documents = Documents(text, document_bytes);
  const auto ids = EncodeAll(**tokenizer, documents);
  if (!ids.ok()) return Fail(std::string(ids.status().message()));
  if (!ids_path.empty()) {
    std::ofstream out(ids_path);
    for (const Ids& line : *ids) {
      for (const int32_t id : line) out << id << ' ';
      out << '\n';
    }
  }
  size_t tokens = 0;
  for (const Ids& line : *ids) tokens += line.size();
  const Timing encode = TimeRounds(rounds, [&] { (void)EncodeAll(**tokenizer, documents); });
  const Timing decode = TimeRounds(rounds, [&] {
    for (const Ids& line : *ids) (void)(*tokenizer)->Decode(line, false);
  });
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::cout << absl::StreamFormat(
      "%s\n%s: %.2f MB in %d documents, %d tokens; %d documents decode to their text\n"
      "encode %.1f MB/s (spread %.0f %%), decode %.1f MB/s (spread %.0f %%), one thread's "
      "processor time\n",
      ProcessorName(), text_path, megabytes, documents.size(), tokens,
      CountBack(**tokenizer, documents, *ids), megabytes / encode.median_seconds,
      encode.spread_percent, megabytes / decode.median_seconds, decode.spread_percent);
  return 0;
}

}  // namespace
}  // namespace vernier::bench

int main(int argc, char** argv) { return vernier::bench::Run(argc, argv); }
