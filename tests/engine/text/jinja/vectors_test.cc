// Templates and the text that Jinja2 makes of them.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/engine/text/jinja/rendering.h"
#include "tests/testing/test_data.h"

namespace vernier::jinja {
namespace {

using Json = nlohmann::ordered_json;

std::vector<Json> Lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<Json> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(Json::parse(line, nullptr, /*allow_exceptions=*/false));
  }
  return lines;
}

void ExpectEqual(const std::vector<Json>& vectors) {
  for (const Json& vector : vectors) {
    const auto name = vector["name"].get<std::string>();
    const auto text = testing::Render(vector["chat_template"].get<std::string>(), vector["data"]);
    ASSERT_TRUE(text.ok()) << name << ": " << text.status();
    EXPECT_EQ(text->bytes(), vector["target"].get<std::string>()) << name;
  }
}

TEST(JinjaVectorsTest, ModelsTemplatesEqualJinja) {
  const auto vectors = Lines(vernier::testing::TestDataPath("chat_templates/models.jsonl"));
  ASSERT_GE(vectors.size(), 8u);
  ExpectEqual(vectors);
}

TEST(JinjaVectorsTest, SharedTemplatesEqualJinja) {
  const auto vectors =
      Lines(vernier::testing::SharedDataPath("conformance/chat_templates/vectors_dev.jsonl"));
  if (vectors.empty()) GTEST_SKIP() << "conformance/chat_templates is not beside the checkout";
  ExpectEqual(vectors);
}

TEST(JinjaVectorsTest, RawTemplatesParse) {
  const std::filesystem::path folder =
      vernier::testing::SharedDataPath("conformance/chat_templates/jinja");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "chat_templates/jinja is not there";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string source{std::istreambuf_iterator<char>(file), {}};
    EXPECT_TRUE(Template::Parse(source).ok()) << entry.path();
  }
}

TEST(JinjaVectorsTest, CasesEqualJinja) {
  std::ifstream file(vernier::testing::TestDataPath("chat_templates/cases.json"));
  const Json recorded = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(recorded.is_object());
  ASSERT_GE(recorded["cases"].size(), 190u);
  for (const Json& one : recorded["cases"]) {
    const auto source = one["template"].get<std::string>();
    const auto text = testing::Render(source, recorded["data"]);
    if (one.contains("error")) {
      EXPECT_FALSE(text.ok()) << source << "\n" << text->bytes();
      continue;
    }
    ASSERT_TRUE(text.ok()) << source << "\n" << text.status();
    EXPECT_EQ(text->bytes(), one["text"].get<std::string>()) << source;
  }
}

}  // namespace
}  // namespace vernier::jinja
