// Names and numbers of the protocol are frozen: nothing that once landed may go or move.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/testing/test_data.h"
#include "vernier/v1/control.pb.h"
#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/inference.pb.h"
#include "vernier/v1/model_control.pb.h"
#include "vernier/v1/models.pb.h"

namespace vernier {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::DescriptorProto;

void ExpectMessageKept(const DescriptorProto& old, const std::string& name,
                       const DescriptorPool& pool) {
  const auto* now = pool.FindMessageTypeByName(name);
  ASSERT_NE(now, nullptr) << name << " is gone";
  for (const auto& field : old.field()) {
    const auto* kept = now->FindFieldByNumber(field.number());
    ASSERT_NE(kept, nullptr) << name << "." << field.name() << " is gone";
    EXPECT_EQ(kept->name(), field.name()) << name;
    EXPECT_EQ(static_cast<int>(kept->type()), static_cast<int>(field.type()))
        << name << "." << field.name();
    EXPECT_EQ(static_cast<int>(kept->label()), static_cast<int>(field.label()))
        << name << "." << field.name();
  }
  for (const auto& nested : old.nested_type()) {
    ExpectMessageKept(nested, name + "." + nested.name(), pool);
  }
}

TEST(ProtocolTest, NothingThatLandedIsRemovedOrRenumbered) {
  // The generated descriptors are linked in; touching one of each file makes sure of it.
  v1::GenerateRequest::descriptor();
  v1::CompareRequest::descriptor();
  v1::Model::descriptor();
  v1::DrainRequest::descriptor();
  v1::LoadVariantRequest::descriptor();
  std::ifstream file(testing::TestDataPath("protocol.binpb"), std::ios::binary);
  google::protobuf::FileDescriptorSet landed;
  ASSERT_TRUE(landed.ParseFromIstream(&file));
  ASSERT_EQ(landed.file_size(), 7);
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  for (const auto& old : landed.file()) {
    for (const auto& message : old.message_type()) {
      ExpectMessageKept(message, old.package() + "." + message.name(), pool);
    }
    for (const auto& type : old.enum_type()) {
      const auto* now = pool.FindEnumTypeByName(old.package() + "." + type.name());
      ASSERT_NE(now, nullptr) << type.name();
      for (const auto& value : type.value()) {
        const auto* kept = now->FindValueByNumber(value.number());
        ASSERT_NE(kept, nullptr) << value.name();
        EXPECT_EQ(kept->name(), value.name());
      }
    }
    for (const auto& service : old.service()) {
      const auto* now = pool.FindServiceByName(old.package() + "." + service.name());
      ASSERT_NE(now, nullptr) << service.name();
      for (const auto& method : service.method()) {
        const auto* kept = now->FindMethodByName(method.name());
        ASSERT_NE(kept, nullptr) << method.name();
        EXPECT_EQ("." + kept->input_type()->full_name(), method.input_type());
        EXPECT_EQ("." + kept->output_type()->full_name(), method.output_type());
        EXPECT_EQ(kept->server_streaming(), method.server_streaming());
      }
    }
  }
}

}  // namespace
}  // namespace vernier
