#include "cli/flags.h"

#include <map>

#include "absl/strings/str_split.h"
#include "proto/metadata_value.h"

namespace vernier::cli {
namespace {

constexpr char kPrompt[] = "Prompt";
constexpr char kMode[] = "What is compared";

void DeclareTemplateInputs(CLI::App* app, TemplateInputOptions* options) {
  app->add_option("--tools", options->tools,
                  "A JSON array of functions the model may call, as in OpenAI's API; '-': standard "
                  "input")
      ->group(kPrompt)
      ->type_name("PATH");
  app->add_option(
         "--template-arg", options->arguments,
         "A variable of the chat template, repeatable: enable_thinking=false. A value that "
         "is no JSON is text")
      ->group(kPrompt)
      ->allow_extra_args(false)
      ->type_name("NAME=VALUE");
}

void DeclarePrompt(CLI::App* app, PromptOptions* prompt) {
  app->add_option_function<std::string>(
         "PROMPT", [=](const std::string& text) { prompt->text = text; },
         "The prompt; '-' or nothing: standard input, without its last newline")
      ->type_name("");
  CLI::Option* ids = DeclareIds(app, "--ids", "Token ids instead of a text",
                                [=](const std::vector<uint32_t>& given) { prompt->ids = given; })
                         ->group(kPrompt);
  CLI::Option* raw = app->add_flag_callback(
                            "--raw", [=] { prompt->as = PromptOptions::As::kRaw; },
                            "Send the text as it is, even if the model has a chat template")
                         ->group(kPrompt);
  CLI::Option* chat = app->add_flag_callback(
                             "--chat", [=] { prompt->as = PromptOptions::As::kChat; },
                             "Send the text as a user's message (default if the model can chat)")
                          ->group(kPrompt);
  CLI::Option* system = app->add_option("--system", prompt->system, "System message of the chat")
                            ->group(kPrompt)
                            ->type_name("TEXT");
  DeclareTemplateInputs(app, &prompt->template_inputs);
  raw->excludes(chat)->excludes(ids)->excludes(system);
  chat->excludes(ids);
  system->excludes(ids);
}

void DeclareVariant(CLI::App* app, std::string* variant) {
  app->add_option("--variant", *variant, "Precision to use (default: the first that is served)")
      ->type_name("NAME");
}

// What generate, compare and chat send alike.
void DeclareRequest(CLI::App* app, v1::GenerateRequest* request) {
  app->add_option_function<double>(
         "--time-limit", [=](double seconds) { request->set_time_limit_seconds(seconds); },
         "Give what is there after so many seconds")
      ->type_name("SECONDS");
  DeclareCount<uint32_t>(app, "--truncate-prompt", "Keep the last N tokens of the prompt",
                         [=](uint32_t tokens) { request->set_truncate_prompt_tokens(tokens); })
      ->group(kPrompt)
      ->type_name("N");
  app->add_flag_callback(
      "--show-special", [=] { request->set_special_tokens_as_text(true); },
      "Special tokens are shown as they are spelled");
  DeclareSampling(app, request->mutable_sampling());
}

void DeclareCompareMode(CLI::App* app, v1::CompareRequest* request) {
  static const std::map<std::string, v1::CompareMode> kModes = {
      {"free", v1::FREE_RUNNING}, {"forced", v1::TEACHER_FORCED}, {"both", v1::BOTH}};
  app->add_option_function<std::string>(
         "--mode", [=](const std::string& mode) { request->set_mode(kModes.at(mode)); },
         "free: each variant writes its answer; forced: each scores the same text; both (default)")
      ->check(CLI::IsMember({"free", "forced", "both"}))
      ->group(kMode)
      ->type_name("MODE");
  CLI::Option* text =
      app->add_option_function<std::string>(
             "--forced-text", [=](const std::string& t) { request->set_forced_text(t); },
             "The text that is scored (default: the reference's own answer)")
          ->group(kMode)
          ->type_name("TEXT");
  DeclareIds(app, "--forced-ids", "The same, as token ids",
             [=](const std::vector<uint32_t>& ids) {
               request->mutable_forced_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
             })
      ->group(kMode)
      ->excludes(text);
  app->add_flag_callback(
         "--aa-control", [=] { request->set_aa_control(true); },
         "Run the reference twice: its divergence from itself is the noise floor")
      ->group(kMode);
  DeclareCount<uint32_t>(app, "--overlap-k", "Of the top-k overlap; 1 to 20 (default 10)",
                         [=](uint32_t k) { request->set_overlap_k(k); })
      ->group(kMode)
      ->type_name("K");
  app->add_flag_callback(
         "--serial", [=] { request->set_timing(v1::SERIAL); },
         "One variant after the other, so that latencies do not disturb each other")
      ->group(kMode);
}

}  // namespace

CLI::Validator HeaderValue() {
  return CLI::Validator([](std::string& text) -> std::string { return MetadataFault(text); }, "");
}

void DeclareGenerate(CLI::App* app, GenerateOptions* options) {
  DeclarePrompt(app, &options->prompt);
  DeclareVariant(app, options->request.mutable_variant());
  app->add_flag("-q,--quiet", options->quiet, "No line about who served it and how fast");
  DeclareRequest(app, &options->request);
  v1::SamplingParams* sampling = options->request.mutable_sampling();
  DeclareCount<uint32_t>(app, "--prompt-logprobs", "The same for the tokens of the prompt",
                         [=](uint32_t k) { sampling->set_prompt_logprobs(k); })
      ->group("Log-probabilities")
      ->type_name("K");
  DeclareCount<uint32_t>(app, "-n,--n,--samples", "Answers to draw; 1 to 64", [=](uint32_t n) {
    sampling->set_n(n);
  })->type_name("N");
  app->footer(
      "\nExamples:\n"
      "  vernier generate \"Why is the sky blue?\"\n"
      "  vernier generate --variant nf4 --temperature 0 --max-tokens 40 --raw \"Once upon a "
      "time\"\n"
      "  git diff | vernier generate --system \"Write a commit message.\"\n"
      "  vernier generate --ids 1,403,407 --ignore-eos --json\n\n"
      "The text goes to stdout, a line on variant, source, speed and seed to stderr.");
}

void DeclareCompare(CLI::App* app, CompareOptions* options) {
  v1::CompareRequest* request = &options->request;
  DeclarePrompt(app, &options->prompt);
  app->add_option_function<std::string>(
         "--variants",
         [=](const std::string& names) {
           for (const absl::string_view name : absl::StrSplit(names, ',')) {
             request->add_variants(std::string(name));
           }
         },
         "Which, in this order (default: all)")
      ->group(kMode)
      ->type_name("A,B,...");
  app->add_option("--reference", *request->mutable_reference(),
                  "What the others are compared with (default: the highest precision)")
      ->group(kMode)
      ->type_name("NAME");
  DeclareCompareMode(app, request);
  DeclareRequest(app, request->mutable_base());
  app->footer(
      "\nExamples:\n"
      "  vernier compare --temperature 0 \"What is a vernier scale good for?\"\n"
      "  vernier compare --variants fp16,nf4 --mode forced --forced-text \" Paris.\" --raw \"The "
      "capital of France is\"\n"
      "  vernier compare --aa-control --serial --json \"Hi\" | jq '.results[].forced.kl.mean'\n\n"
      "Where a text leaves the reference's, stands ▸ (in colour on a terminal; NO_COLOR is "
      "respected).\n"
      "Exit code 1 when a variant failed; the others are shown.");
}

void DeclareScore(CLI::App* app, ScoreOptions* options) {
  v1::ScoreRequest* request = &options->request;
  CLI::Option* text = app->add_option_function<std::string>(
                             "TEXT", [=](const std::string& t) { options->text = t; },
                             "The text; nothing: standard input")
                          ->type_name("");
  CLI::Option* file = app->add_option_function<std::string>(
                             "--file", [=](const std::string& f) { options->file = f; },
                             "A file with the text, byte for byte; '-': standard input")
                          ->type_name("PATH")
                          ->excludes(text);
  DeclareIds(app, "--ids", "Token ids instead of a text, nothing added",
             [=](const std::vector<uint32_t>& ids) { options->ids = ids; })
      ->excludes(text)
      ->excludes(file);
  DeclareVariant(app, request->mutable_variant());
  CLI::Option* window =
      DeclareCount<uint32_t>(app, "--window",
                             "Windows of N tokens instead of cutting at the context",
                             [=](uint32_t tokens) { request->set_window(tokens); })
          ->type_name("N");
  DeclareCount<uint32_t>(app, "--stride",
                         "Windows begin every N tokens and overlap; each token is scored once,\n"
                         "with at least window - stride tokens before it",
                         [=](uint32_t tokens) { options->stride = tokens; })
      ->needs(window)
      ->type_name("N");
  DeclareCount<uint32_t>(app, "--logprobs", "Show the K best at each position; 0 to 20",
                         [=](uint32_t k) { request->set_logprobs(k); })
      ->type_name("K");
  app->add_flag("-s,--summary", options->summary, "Sum and perplexity alone");
  app->footer(
      "\nExamples:\n"
      "  vernier score --variant int8 --file text.txt\n"
      "  vernier score --summary --window 512 --stride 256 --file book.txt\n"
      "  vernier score --ids 1,403,407 --json\n\n"
      "BOS is added to a text where the tokenizer says so; the first token of a window is not "
      "scored.\nA text longer than the context is cut, and said to be, unless --window is given.");
}

void DeclareChat(CLI::App* app, ChatOptions* options) {
  DeclareVariant(app, options->request.mutable_variant());
  app->add_option("--system", options->system, "System message, first in the history")
      ->type_name("TEXT");
  DeclareTemplateInputs(app, &options->template_inputs);
  DeclareRequest(app, &options->request);
  app->footer(
      "\nWhile chatting:\n"
      "  /variant NAME   go on in another precision, with the same history\n"
      "  /reset          forget the history\n"
      "  /help           this list\n"
      "  Ctrl-C          ends the reply that is being written\n"
      "  Ctrl-D          leaves\n\n"
      "Example:\n  vernier chat --variant nf4 --system \"You answer in one sentence.\"");
}

void DeclareTokenize(CLI::App* app, TokenizeOptions* options) {
  app->add_option("--model", options->model,
                  "Hugging Face folder, GGUF file (a vocabulary alone will do), tokenizer.json or "
                  "tokenizer.model")
      ->required()
      ->type_name("PATH");
  CLI::Option* text = app->add_option_function<std::string>(
                             "TEXT", [=](const std::string& t) { options->text = t; },
                             "The text; nothing: standard input")
                          ->type_name("");
  app->add_option_function<std::string>(
         "--file", [=](const std::string& f) { options->file = f; },
         "A file with the text, byte for byte; '-': standard input")
      ->type_name("PATH")
      ->excludes(text);
  app->add_flag("--special", options->recognise_special,
                "\"<|im_start|>\" in the text is the special token, not text");
  app->add_flag_callback(
      "--no-bos", [=] { options->add_begin = false; }, "Never add BOS");
  app->footer(
      "\nNeeds no server.\n\nExamples:\n"
      "  vernier tokenize --model models/smollm2.gguf \"Hello, world\"\n"
      "  vernier tokenize --model tokenizer.json --file text.txt --json");
}

void DeclareTemplate(CLI::App* app, TemplateOptions* options) {
  app->add_option("--template", options->file, "A chat template (Jinja); '-': standard input")
      ->required()
      ->type_name("PATH");
  app->add_option("--data", options->data, "A JSON object with its variables; '-': standard input")
      ->required()
      ->type_name("PATH");
  app->footer(
      "\nNeeds no server. \"messages\", \"add_generation_prompt\", \"bos_token\" and the like are "
      "members of\nthe object. Printed as it is, without a line feed behind it.\n\n"
      "Example:\n  vernier template --template chat_template.jinja --data messages.json");
}

void DeclareInspect(CLI::App* app, InspectOptions* options) {
  app->add_option("--model", options->model, "GGUF file or Hugging Face folder")
      ->required()
      ->type_name("PATH");
  app->add_flag("--tensors", options->tensors, "List every tensor (--json always does)");
  app->add_flag(
      "--digest", options->digest,
      "SHA-256 of the weights; reads all, and compares with the manifest if there is one");
  CLI::Option* write = app->add_flag(
      "--write-manifest", options->write_manifest,
      "Hash every file and tensor into MODEL_FOLDER/manifest.json or FILE.gguf.manifest.json, "
      "which loading then verifies");
  app->add_flag("--golden", options->golden,
                "Also record what greedy decoding draws, for a self-test before serving; loads in "
                "fp32")
      ->needs(write);
  app->footer("\nNeeds no server.\n\nExample:\n  vernier inspect --model MODEL_FOLDER --tensors");
}

}  // namespace vernier::cli
