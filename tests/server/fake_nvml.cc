// A libnvidia-ml for tests: the few functions that server/gpu_events.cc uses. FAKE_NVML is what its
// one GPU tells, in turn: "13" an Xid, "ecc" an ECC error, "lost" that it is gone.
#include <poll.h>

#include <cstdlib>
#include <cstring>

extern "C" {

struct nvmlEventData {
  void* device;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};

int nvmlInit_v2() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* count) {
  const char* gpus = std::getenv("FAKE_NVML_GPUS");
  *count = gpus == nullptr ? 1 : std::strtoul(gpus, nullptr, 10);
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = nullptr;
  return index == 0 ? 0 : 2;
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  *device = nullptr;
  return std::strcmp(uuid, "GPU-ours") == 0 ? 0 : 6;
}
int nvmlEventSetCreate(void** set) {
  static const char* rest = nullptr;
  const char* told = std::getenv("FAKE_NVML");
  rest = told == nullptr ? "" : told;
  *set = &rest;
  return 0;
}
int nvmlDeviceGetSupportedEventTypes(void*, unsigned long long* types) {
  *types = 0x1f;
  return 0;
}
int nvmlDeviceRegisterEvents(void*, unsigned long long types, void*) {
  return types == 0xb ? 0 : 2;
}
int nvmlEventSetWait_v2(void* set, void* event, unsigned milliseconds) {
  auto* const data = static_cast<nvmlEventData*>(event);
  const char*& rest = *static_cast<const char**>(set);
  while (*rest == ' ') ++rest;
  if (*rest == '\0') {
    poll(nullptr, 0, static_cast<int>(milliseconds));
    return 10;
  }
  if (std::strncmp(rest, "lost", 4) == 0) return 15;
  if (std::strncmp(rest, "ecc", 3) == 0) {
    rest += 3;
    data->type = 1;
    return 0;
  }
  char* end = nullptr;
  data->type = 8;
  data->data = std::strtoull(rest, &end, 10);
  rest = end;
  return 0;
}
}
