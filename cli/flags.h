// Declares the flags of each command to CLI11. Callbacks fill the options, which must outlive
// `app`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli/options.h"

namespace vernier::cli {

// A list of token ids: "1,2,3".
CLI::Option* DeclareIds(CLI::App* app, const std::string& name, const std::string& text,
                        const std::function<void(const std::vector<uint32_t>&)>& set);
void DeclareSampling(CLI::App* app, v1::SamplingParams* sampling);

void DeclareGenerate(CLI::App* app, GenerateOptions* options);
void DeclareCompare(CLI::App* app, CompareOptions* options);
void DeclareScore(CLI::App* app, ScoreOptions* options);
void DeclareChat(CLI::App* app, ChatOptions* options);
void DeclareTokenize(CLI::App* app, TokenizeOptions* options);
void DeclareInspect(CLI::App* app, InspectOptions* options);

}  // namespace vernier::cli
