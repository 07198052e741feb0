// Declares the flags of each command to CLI11. Callbacks fill the options, which must outlive
// `app`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cli/options.h"

namespace vernier::cli {

// Refuses what cannot be the value of a header, without repeating it: gRPC ends the process for it.
CLI::Validator HeaderValue();
// A list of token ids: "1,2,3".
CLI::Option* DeclareIds(CLI::App* app, const std::string& name, const std::string& text,
                        const std::function<void(const std::vector<uint32_t>&)>& set);
// A whole number. CLI11's own conversion takes "-1" for 2^64 - 1 and "010" for 8.
template <typename Unsigned>
CLI::Option* DeclareCount(CLI::App* app, const std::string& name, const std::string& text,
                          const std::function<void(Unsigned)>& set) {
  return app
      ->add_option_function<std::string>(
          name,
          [set](const std::string& digits) {
            Unsigned value = 0;
            if (absl::SimpleAtoi(digits, &value)) set(value);
          },
          text)
      ->check(CLI::Validator(
          [](std::string& digits) -> std::string {
            Unsigned value = 0;
            if (absl::SimpleAtoi(digits, &value)) return "";
            return absl::StrCat("'", digits, "' is no whole number from 0 to ",
                                std::numeric_limits<Unsigned>::max());
          },
          ""));
}

void DeclareSampling(CLI::App* app, v1::SamplingParams* sampling);

void DeclareGenerate(CLI::App* app, GenerateOptions* options);
void DeclareCompare(CLI::App* app, CompareOptions* options);
void DeclareScore(CLI::App* app, ScoreOptions* options);
void DeclareChat(CLI::App* app, ChatOptions* options);
void DeclareRoutingKey(CLI::App* app, std::string* key);
void DeclareExperiment(CLI::App* app, ExperimentOptions* options);
void DeclareFeedback(CLI::App* app, FeedbackOptions* options);
void DeclareTokenize(CLI::App* app, TokenizeOptions* options);
void DeclareTemplate(CLI::App* app, TemplateOptions* options);
void DeclareInspect(CLI::App* app, InspectOptions* options);

}  // namespace vernier::cli
