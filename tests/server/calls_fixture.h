// Calls against an engine that the test drives, and a client that is a list of messages.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/mutex.h"
#include "server/call.h"
#include "tests/testing/fake_engine.h"
#include "vernier/v1/evaluation.pb.h"
#include "vernier/v1/inference.pb.h"

namespace vernier::testing {

// What a client would see. Writes stay in flight until the test says otherwise, or at once when
// `reads` is set.
class RecordingClient : public Responder {
 public:
  void Write(const google::protobuf::Message& message) override {
    EngineCall* call = nullptr;
    {
      MutexLock lock(&mutex_);
      messages_.push_back(message.SerializeAsString());
      if (reads_) call = call_;
    }
    changed_.NotifyAll();
    if (call != nullptr) call->OnWritten(true);
  }
  void Finish(const absl::Status& status, const google::protobuf::Message* reply,
              int64_t delivered_tokens) override {
    {
      MutexLock lock(&mutex_);
      EXPECT_FALSE(finished_) << "finished twice";
      finished_ = true;
      status_ = status;
      if (reply != nullptr) reply_ = reply->SerializeAsString();
      delivered_tokens_ = delivered_tokens;
    }
    changed_.NotifyAll();
  }

  void Follow(EngineCall* call, bool reads) {
    MutexLock lock(&mutex_);
    call_ = call;
    reads_ = reads;
  }
  absl::Status AwaitStatus() {
    MutexLock lock(&mutex_);
    while (!finished_) changed_.Wait(&mutex_);
    return status_;
  }
  void AwaitMessages(size_t count) {
    MutexLock lock(&mutex_);
    while (messages_.size() < count) changed_.Wait(&mutex_);
  }
  template <typename Message>
  std::vector<Message> Messages() {
    MutexLock lock(&mutex_);
    std::vector<Message> out(messages_.size());
    for (size_t i = 0; i < messages_.size(); ++i) EXPECT_TRUE(out[i].ParseFromString(messages_[i]));
    return out;
  }
  template <typename Message>
  Message Reply() {
    MutexLock lock(&mutex_);
    Message out;
    EXPECT_TRUE(out.ParseFromString(reply_));
    return out;
  }
  int64_t delivered_tokens() {
    MutexLock lock(&mutex_);
    return delivered_tokens_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  EngineCall* call_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool reads_ ABSL_GUARDED_BY(mutex_) = true;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> messages_ ABSL_GUARDED_BY(mutex_);
  std::string reply_ ABSL_GUARDED_BY(mutex_);
  int64_t delivered_tokens_ ABSL_GUARDED_BY(mutex_) = -1;
};

class CallsTest : public ::testing::Test {
 protected:
  CallsTest() {
    served_.model = model_.get();
    served_.engine = &engine_;
    served_.clock = &clock_;
    served_.writers = &writers_;
    served_.tasks = &tasks_;
    served_.metrics = &metrics_;
    served_.next_request_id = &next_id_;
  }
  ~CallsTest() override { engine_.Forget(); }

  CallContext Context(Method method) {
    CallContext context;
    context.method = method;
    context.arrived = clock_.Now();
    context.deadline = clock_.Now() + absl::Seconds(60);
    return context;
  }
  template <typename Call, typename Spec, typename Shape>
  std::shared_ptr<Call> StartCall(Method method, Spec spec, Shape shape, bool reads = true) {
    auto call = std::make_shared<Call>(&served_, Context(method), &client_, std::move(spec), shape);
    client_.Follow(call.get(), reads);
    call->Start();
    return call;
  }

  FakeClock clock_;
  std::unique_ptr<Model> model_ = FakeModel(true);
  FakeEngine engine_{{16, 1000}, 64, 3, &clock_};
  Metrics metrics_{"fake", {{"fp16", "fp16"}, {"int8", "int8"}, {"nf4", "nf4"}}, 64};
  // Ticks come from the test alone.
  WriterPool writers_{2, absl::Hours(1)};
  TaskPool tasks_{1};
  std::atomic<uint64_t> next_id_{1};
  Served served_;
  RecordingClient client_;
};

}  // namespace vernier::testing
