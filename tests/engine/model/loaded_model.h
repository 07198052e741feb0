// A model of tests/data on the CPU backend, ready to run.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "kernels/make_backend.h"
#include "tests/testing/single_sequence.h"

namespace vernier::testing {

// Destroyed in reverse order: the model's weights are in the backend's memory.
struct LoadedModel {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<SequenceDriver> driver;
};

inline absl::StatusOr<LoadedModel> LoadForTest(const std::string& path,
                                               const std::vector<VariantSpec>& variants,
                                               const SequenceDriver::Limits& limits) {
  LoadedModel loaded;
  absl::StatusOr<std::unique_ptr<Backend>> backend = MakeBackend({.kind = "cpu"});
  if (!backend.ok()) return backend.status();
  loaded.backend = *std::move(backend);
  absl::StatusOr<std::unique_ptr<Model>> model =
      LoadModel(path, "test", variants, loaded.backend.get(), nullptr);
  if (!model.ok()) return model.status();
  loaded.model = *std::move(model);
  absl::StatusOr<std::unique_ptr<SequenceDriver>> driver =
      SequenceDriver::Create(loaded.model.get(), loaded.backend.get(), limits);
  if (!driver.ok()) return driver.status();
  loaded.driver = *std::move(driver);
  return loaded;
}

inline std::vector<VariantSpec> VariantsOf(const std::vector<FormatId>& formats) {
  std::vector<VariantSpec> variants;
  for (const FormatId format : formats) variants.push_back(DefaultVariant(format));
  return variants;
}

inline std::vector<FormatId> AllFormats() {
  std::vector<FormatId> formats;
  for (const QuantFormat& format : QuantFormats()) formats.push_back(format.id);
  return formats;
}

}  // namespace vernier::testing
