#include "tests/simulation/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace vernier::simulation {

Simulation::Simulation(const SimulationOptions& options)
    : options_(options),
      random_(options.seed),
      ledger_(std::make_shared<AdmissionLedger>(AdmissionLimits{})),
      scheduler_(options.limits),
      device_(options.limits.kv_blocks),
      fair_turns_(options.limits) {}

void Simulation::Run(int64_t steps) {
  const int64_t until = counts_.steps + steps;
  while (counts_.steps < until) {
    SCOPED_TRACE(testing::Message() << options_.name << " depth " << options_.planning_depth
                                    << " seed " << options_.seed << " step " << counts_.steps);
    Arrive();
    CancelSome();
    Iterate();
    if (testing::Test::HasFailure()) return;
  }
}

void Simulation::Finish() {
  // Each step gives someone a row; a preemption costs at most a context of them.
  const int64_t work = static_cast<int64_t>(clients_.size()) * options_.limits.max_context * 8;
  for (int64_t i = 0; i < work && !scheduler_.idle(); ++i) {
    Iterate();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_TRUE(scheduler_.idle()) << "some never end";
  EXPECT_TRUE(clients_.empty());
  EXPECT_EQ(scheduler_.pool().free(), scheduler_.pool().total());
  EXPECT_EQ(ledger_->load().requests, 0);
  EXPECT_EQ(ledger_->load().tokens, 0);
}

void Simulation::EndEveryClient(EndReason reason) {
  for (const auto& sequence : scheduler_.sequences()) {
    const bool started = sequence->Running();
    const Phase phase = started
                            ? (sequence->computed < sequence->prompt_tokens ? kInPrompt : kInText)
                            : (sequence->preemptions > 0 ? kPreempted : kWaiting);
    ++counts_.ended_in[phase];
  }
  for (const auto& client : clients_) client->control()->End(reason);
  Iterate();
}

void Simulation::EndAll() {
  scheduler_.EndAll({FinishReason::kDrain, -1, absl::UnavailableError("stopped")});
  if (running_ != nullptr) scheduler_.Commit(std::exchange(running_, nullptr)->plan);
  FinishEnded();
  Finish();
}

void Simulation::Arrive() {
  const TrafficMix& mix = options_.traffic;
  if (!Chance(&random_, mix.arrivals)) return;
  for (int64_t i = Below(&random_, mix.burst); i >= 0; --i) {
    if (static_cast<int64_t>(clients_.size()) >= mix.max_live) return;
    const uint64_t id = static_cast<uint64_t>(counts_.requests++);
    Arrival arrival = MakeArrival(mix, options_.limits.max_context, id, now_, &random_);
    auto reservations = ledger_->Reserve(1, 1);
    ASSERT_TRUE(reservations.ok()) << reservations.status();
    arrival.request->reservation = std::move((*reservations)[0]);
    clients_.push_back(std::move(arrival.client));
    scheduler_.Add(std::make_unique<Sequence>(std::move(arrival.request), id, now_,
                                              std::vector<int32_t>{kEndToken}));
  }
}

void Simulation::CancelSome() {
  if (clients_.empty() || !Chance(&random_, 2)) return;
  const EndReason reasons[] = {EndReason::kCancelled, EndReason::kDeadline,
                               EndReason::kSlowConsumer};
  const size_t which = static_cast<size_t>(Below(&random_, static_cast<int64_t>(clients_.size())));
  clients_[which]->control()->End(reasons[Below(&random_, 3)]);
}

// One turn of DeviceEngine::RunStep.
void Simulation::Iterate() {
  now_ += absl::Milliseconds(Below(&random_, 5));
  if (options_.clock_jumps > 0 && Chance(&random_, options_.clock_jumps)) {
    now_ += absl::Milliseconds(Below(&random_, 3'600'000));
  }
  std::vector<std::shared_ptr<Client>> due;
  for (const auto& client : clients_) {
    if (client->MustEnd(now_)) due.push_back(client);
  }
  ended_now_ = 0;
  Step* next = running_ == &steps_[0] ? &steps_[1] : &steps_[0];
  admission_order_.BeforePlan(scheduler_);
  scheduler_.Plan(now_, &next->plan);
  counts_.preemptions += static_cast<int64_t>(scheduler_.preemptions().size());
  admission_order_.AfterPlan(scheduler_);
  fair_turns_.AfterPlan(scheduler_, next->plan);
  CheckPlan(scheduler_, next->plan, options_.limits);
  CheckPool(scheduler_);
  if (running_ != nullptr) CheckInFlight(running_->plan, running_->arrays);
  const bool had_work = !scheduler_.idle();
  FinishEnded();
  EXPECT_TRUE(!had_work || !next->plan.empty() || ended_now_ > 0 || running_ != nullptr)
      << "sequences exist, and the loop would spin";
  if (running_ != nullptr) Complete(std::exchange(running_, nullptr));
  if (!next->plan.empty()) Launch(next);
  for (const auto& client : due) {
    EXPECT_TRUE(client->finished()) << "request " << client->id() << " outlived its end by a step";
  }
}

void Simulation::Launch(Step* step) {
  MakeBatch(step->plan, &step->arrays);
  CheckArrays(step->plan, step->arrays);
  ++counts_.steps;
  counts_.paired_steps += step->plan.reference >= 0;
  counts_.low_steps += step->plan.rows[0].sequence->request->priority == Priority::kLow;
  if (options_.planning_depth > 1) {
    running_ = step;
  } else {
    Complete(step);
  }
}

void Simulation::Complete(Step* step) {
  // As late as a device may: what it writes now must still have its place.
  CheckInFlight(step->plan, step->arrays);
  device_.Run(step->plan, &step->arrays);
  DeliverStep(*step, now_, nullptr);
  scheduler_.Commit(step->plan);
  FinishEnded();
  CheckPool(scheduler_);
}

void Simulation::FinishEnded() {
  for (const auto& sequence : scheduler_.TakeEnded()) {
    EXPECT_TRUE(sequence->blocks.empty() && sequence->reference_blocks.empty());
    EXPECT_EQ(sequence->in_flight, 0);
    ++ended_now_;
    ++counts_.ended[static_cast<int>(sequence->end->reason)];
    counts_.cached_tokens += sequence->cached_tokens;
    FinishSequence(sequence.get(), now_, nullptr);
  }
  std::erase_if(clients_, [](const auto& client) { return client->finished(); });
}

}  // namespace vernier::simulation
