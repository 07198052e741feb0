#include "server/gpu_events.h"

#include <dlfcn.h>

#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"

namespace vernier {
namespace {

constexpr int kSuccess = 0;
constexpr int kTimeout = 10;
constexpr int kGpuIsLost = 15;
constexpr unsigned kWaitMilliseconds = 250;
constexpr uint64_t kXidGpuIsLost = 79;

enum EventType : unsigned long long {  // nvmlEventType*
  kSingleBitEcc = 0x1,
  kDoubleBitEcc = 0x2,
  kXidCritical = 0x8,
};

struct EventData {  // nvmlEventData_t
  void* device;
  unsigned long long type;
  unsigned long long data;
  unsigned gpu_instance, compute_instance;
};

// What is used of NVML.
struct Nvml {
  int (*init)();
  int (*count)(unsigned* count);
  int (*by_index)(unsigned index, void** device);
  int (*by_uuid)(const char* uuid, void** device);
  int (*make_set)(void** set);
  int (*supported)(void* device, unsigned long long* types);
  int (*subscribe)(void* device, unsigned long long types, void* set);
  int (*wait)(void* set, void* data, unsigned milliseconds);  // EventData
};

// Never closed: it has threads of its own.
absl::StatusOr<Nvml> Open(const std::string& library) {
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return absl::NotFoundError(dlerror());
  Nvml nvml{};
  const char* missing = nullptr;
  const auto find = [&](auto* function, const char* name) {
    *function = reinterpret_cast<std::decay_t<decltype(*function)>>(dlsym(handle, name));
    if (*function == nullptr) missing = name;
  };
  find(&nvml.init, "nvmlInit_v2");
  find(&nvml.count, "nvmlDeviceGetCount_v2");
  find(&nvml.by_index, "nvmlDeviceGetHandleByIndex_v2");
  find(&nvml.by_uuid, "nvmlDeviceGetHandleByUUID");
  find(&nvml.make_set, "nvmlEventSetCreate");
  find(&nvml.supported, "nvmlDeviceGetSupportedEventTypes");
  find(&nvml.subscribe, "nvmlDeviceRegisterEvents");
  find(&nvml.wait, "nvmlEventSetWait_v2");
  if (missing == nullptr) return nvml;
  return absl::FailedPreconditionError(absl::StrCat(library, " has no ", missing));
}

absl::Status Try(int result, const char* what) {
  if (result == kSuccess) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("NVML cannot ", what, ": error ", result));
}

absl::StatusOr<void*> FindDevice(const Nvml& nvml, const std::string& visible) {
  void* device = nullptr;
  const std::string first = visible.substr(0, visible.find(','));
  absl::Status found;
  if (absl::StartsWith(first, "GPU-")) {
    found = Try(nvml.by_uuid(first.c_str(), &device), "find the GPU of CUDA_VISIBLE_DEVICES");
  } else {
    unsigned count = 0;
    found = Try(nvml.count(&count), "count GPUs");
    // CUDA and NVML need not number them alike.
    if (found.ok() && count != 1) {
      return absl::FailedPreconditionError(
          absl::StrCat(count, " GPUs can be seen; put the UUID of ours into CUDA_VISIBLE_DEVICES"));
    }
    if (found.ok()) found = Try(nvml.by_index(0, &device), "find the GPU");
  }
  if (!found.ok()) return found;
  return device;
}

// A set of the device's events that are of interest.
absl::StatusOr<void*> Subscribe(const Nvml& nvml, void* device) {
  void* set = nullptr;
  unsigned long long supported = 0;
  absl::Status done = Try(nvml.supported(device, &supported), "say what events there are");
  if (done.ok()) done = Try(nvml.make_set(&set), "make a set of events");
  if (done.ok()) {
    done =
        Try(nvml.subscribe(device, supported & (kSingleBitEcc | kDoubleBitEcc | kXidCritical), set),
            "subscribe to events");
  }
  if (!done.ok()) return done;
  return set;
}

class NvmlEvents : public GpuEvents {
 public:
  NvmlEvents(const Nvml& nvml, void* set, std::function<void(const GpuEvent&)> told)
      : nvml_(nvml), set_(set), told_(std::move(told)), thread_([this] { Run(); }) {}
  ~NvmlEvents() override {
    stopping_.store(true, std::memory_order_relaxed);
    thread_.join();
  }

 private:
  void Run() {
    while (!stopping_.load(std::memory_order_relaxed)) {
      EventData data{};
      const int result = nvml_.wait(set_, &data, kWaitMilliseconds);
      if (result == kTimeout) continue;
      if (result == kGpuIsLost) return told_({GpuEvent::Kind::kXid, kXidGpuIsLost});
      if (result != kSuccess) {
        Log(LogLevel::kError, absl::StrCat("NVML tells no more events: error ", result));
        return;
      }
      if (data.type == kXidCritical) {
        told_({GpuEvent::Kind::kXid, data.data});
      } else {
        told_({GpuEvent::Kind::kEcc, 0});
      }
    }
  }

  const Nvml nvml_;
  void* const set_;
  const std::function<void(const GpuEvent&)> told_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace

bool IsFatal(const GpuEvent& event) {
  if (event.kind != GpuEvent::Kind::kXid) return false;
  return event.xid == 48 || event.xid == 79 || event.xid == 94 || event.xid == 95;
}

absl::StatusOr<std::unique_ptr<GpuEvents>> GpuEvents::Start(
    const std::string& library, const std::string& visible,
    std::function<void(const GpuEvent&)> told) {
  auto nvml = Open(library);
  if (!nvml.ok()) return nvml.status();
  if (absl::Status status = Try(nvml->init(), "start"); !status.ok()) return status;
  auto device = FindDevice(*nvml, visible);
  if (!device.ok()) return device.status();
  auto set = Subscribe(*nvml, *device);
  if (!set.ok()) return set.status();
  return std::make_unique<NvmlEvents>(*nvml, *set, std::move(told));
}

}  // namespace vernier
