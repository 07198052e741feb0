#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "cli/flags.h"

namespace vernier::cli {
namespace {

constexpr char kSampling[] = "Sampling (the server's defaults where not given)";
constexpr char kStopping[] = "Stopping";
constexpr char kLogprobs[] = "Log-probabilities";

// "42=-1.5,7=2" into the request. False: `text` is something else.
bool ParseBiases(const std::string& text, v1::SamplingParams* sampling) {
  for (const absl::string_view pair : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(pair, '=');
    uint32_t id = 0;
    float bias = 0;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &id) ||
        !absl::SimpleAtof(parts[1], &bias)) {
      return false;
    }
    (*sampling->mutable_logit_bias())[id] = bias;
  }
  return true;
}

std::optional<std::vector<uint32_t>> ParseIds(const std::string& text) {
  std::vector<uint32_t> ids;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    uint32_t id = 0;
    if (!absl::SimpleAtoi(part, &id)) return std::nullopt;
    ids.push_back(id);
  }
  return ids;
}

void DeclareDrawing(CLI::App* app, v1::SamplingParams* sampling) {
  using std::string;
  const auto number = [app](const string& name, const string& text, auto set) {
    app->add_option_function<float>(name, set, text)->group(kSampling)->type_name("X");
  };
  number("--temperature", "0 is greedy; 0 to 100", [=](float x) { sampling->set_temperature(x); });
  number("--top-p", "Smallest set of tokens with this probability; (0, 1]",
         [=](float x) { sampling->set_top_p(x); });
  DeclareCount<uint32_t>(app, "--top-k", "The K best tokens; 0: all",
                         [=](uint32_t k) { sampling->set_top_k(k); })
      ->group(kSampling)
      ->type_name("K");
  number("--min-p", "Tokens with this share of the best one's probability; [0, 1]",
         [=](float x) { sampling->set_min_p(x); });
  number("--frequency-penalty", "-2 to 2", [=](float x) { sampling->set_frequency_penalty(x); });
  number("--presence-penalty", "-2 to 2", [=](float x) { sampling->set_presence_penalty(x); });
  number("--repetition-penalty", "(0, 10]; 1: none",
         [=](float x) { sampling->set_repetition_penalty(x); });
  DeclareCount<uint64_t>(app, "--seed",
                         "The same seed gives the same text; drawn by the server otherwise",
                         [=](uint64_t seed) { sampling->set_seed(seed); })
      ->group(kSampling)
      ->type_name("N");
  app->add_option_function<string>(
         "--logit-bias", [=](const string& text) { ParseBiases(text, sampling); },
         "Added to the logits of tokens, as in 42=-1.5,7=2")
      ->check(CLI::Validator(
          [](string& text) -> string {
            v1::SamplingParams ignored;
            if (ParseBiases(text, &ignored)) return "";
            return absl::StrCat("'", text, "' is not ID=X,... as in 42=-1.5,7=2");
          },
          ""))
      ->group(kSampling)
      ->type_name("ID=X,...");
}

void DeclareStopping(CLI::App* app, v1::SamplingParams* sampling) {
  DeclareCount<uint32_t>(app, "--max-tokens",
                         "At most N tokens (default: what the context leaves, at most 256)",
                         [=](uint32_t n) { sampling->set_max_tokens(n); })
      ->group(kStopping)
      ->type_name("N");
  DeclareCount<uint32_t>(app, "--min-tokens",
                         "At least N tokens before the end; needs --max-tokens",
                         [=](uint32_t n) { sampling->set_min_tokens(n); })
      ->group(kStopping)
      ->type_name("N");
  app->add_option_function<std::vector<std::string>>(
         "--stop",
         [=](const std::vector<std::string>& stops) {
           sampling->mutable_stop()->Assign(stops.begin(), stops.end());
         },
         "End before this text; may be given up to 16 times")
      ->group(kStopping)
      ->allow_extra_args(false)
      ->type_name("TEXT");
  DeclareIds(app, "--stop-ids,--stop-token-ids", "End before one of these tokens",
             [=](const std::vector<uint32_t>& ids) {
               sampling->mutable_stop_token_ids()->Assign(ids.begin(), ids.end());
             })
      ->group(kStopping);
  app->add_flag_callback(
         "--include-stop", [=] { sampling->set_include_stop_str_in_output(true); },
         "Show the stop text that was found")
      ->group(kStopping);
  app->add_flag_callback(
         "--ignore-eos", [=] { sampling->set_ignore_eos(true); },
         "Go on after the end-of-sequence token")
      ->group(kStopping);
}

}  // namespace

CLI::Option* DeclareIds(CLI::App* app, const std::string& name, const std::string& text,
                        const std::function<void(const std::vector<uint32_t>&)>& set) {
  return app
      ->add_option_function<std::string>(
          name, [set](const std::string& ids) { set(*ParseIds(ids)); }, text)
      ->check(CLI::Validator(
          [](std::string& ids) -> std::string {
            if (ParseIds(ids)) return "";
            return absl::StrCat("'", ids, "' is no list of token ids, as in 1,2,3");
          },
          ""))
      ->type_name("ID,...");
}

void DeclareSampling(CLI::App* app, v1::SamplingParams* sampling) {
  DeclareStopping(app, sampling);
  DeclareDrawing(app, sampling);
  DeclareCount<uint32_t>(app, "--logprobs",
                         "Log-probability of each token and of the K best; 0 to 20",
                         [=](uint32_t k) { sampling->set_logprobs(k); })
      ->group(kLogprobs)
      ->type_name("K");
}

}  // namespace vernier::cli
