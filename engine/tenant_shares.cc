#include "engine/tenant_shares.h"

#include <algorithm>
#include <limits>

#include "kernels/base/check.h"

namespace vernier {
namespace {

// Tenants that are remembered though they want nothing: names come from outside.
constexpr int64_t kMaxIdle = 1024;

}  // namespace

// The least that an active tenant has got.
int64_t TenantShares::Level() const {
  int64_t level = std::numeric_limits<int64_t>::max();
  for (const auto& [name, tenant] : tenants_) {
    if (tenant.sequences > 0) level = std::min(level, tenant.served);
  }
  return level == std::numeric_limits<int64_t>::max() ? last_level_ : level;
}

TenantShares::Tenant* TenantShares::Add(const std::string& name) {
  const auto [entry, added] = tenants_.try_emplace(name);
  Tenant& tenant = entry->second;
  if (tenant.sequences == 0) {
    if (!added) --idle_;
    tenant.served = std::max(tenant.served, Level() - kCredit);
  }
  ++tenant.sequences;
  return &tenant;
}

void TenantShares::Remove(const std::string& name) {
  const auto entry = tenants_.find(name);
  VERNIER_CHECK(entry != tenants_.end() && entry->second.sequences > 0);
  if (--entry->second.sequences > 0) return;
  last_level_ = std::max(last_level_, entry->second.served);
  if (++idle_ <= kMaxIdle) return;
  std::erase_if(tenants_, [](const auto& tenant) { return tenant.second.sequences == 0; });
  idle_ = 0;
}

}  // namespace vernier
