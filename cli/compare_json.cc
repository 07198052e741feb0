#include "cli/compare_json.h"

#include "cli/json_output.h"

namespace vernier::cli {

nlohmann::ordered_json CompareJson(const v1::CompareResponse& reply) {
  nlohmann::ordered_json json = ToJson(reply);
  for (int i = 0; i < reply.results_size(); ++i) {
    const v1::VariantResult& result = reply.results(i);
    if (!result.has_forced()) continue;
    nlohmann::ordered_json& forced = json["results"][i]["forced"];
    const bool scored = result.forced().positions() > 0;
    if (!scored || (result.is_reference() && !result.is_control())) {
      for (const char* name : {"kl", "top1_agreement", "top_k_overlap", "reference_perplexity",
                               "log_perplexity_difference"}) {
        forced[name] = nullptr;
      }
    }
    if (!scored) forced["perplexity"] = nullptr;
  }
  return json;
}

}  // namespace vernier::cli
