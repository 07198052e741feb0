#include "server/experiments/statistics.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <cmath>
#include <limits>

#include "kernels/base/check.h"

namespace vernier {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double LnGamma(double x) { return boost::math::lgamma(x); }
double LnBeta(double a, double b) { return LnGamma(a) + LnGamma(b) - LnGamma(a + b); }
double NormalQuantile(double p) { return boost::math::quantile(boost::math::normal(), p); }

// The variance of the mixture that makes a sequence narrowest at `count` values.
double RhoSquared(double alpha, double count) {
  const double twice = -2 * std::log(alpha);
  return (twice + std::log(twice + 1)) / count;
}

bool Known(const Difference& difference) {
  return difference.count > 0 && difference.standard_error > 0;
}

// ln of the mean of exp(values).
double LnMean(std::span<const double> values) {
  const double largest = *std::max_element(values.begin(), values.end());
  double sum = 0;
  for (const double value : values) sum += std::exp(value - largest);
  return largest + std::log(sum / static_cast<double>(values.size()));
}

// Shares of the capital that are bet on a value above the limit; below 1, so it is never all lost.
constexpr double kBets[] = {0.02, 0.05, 0.1, 0.2, 0.4, 0.7};

Bounds Around(double middle, double half) { return {middle - half, middle + half}; }

// sqrt(N) * error * sqrt(2 (N rho^2 + 1) / (N rho)^2 * ln_term): the half-width of either sequence.
double HalfWidth(const Difference& difference, double rho_squared, double ln_term) {
  const auto n = static_cast<double>(difference.count);
  const double mixed = n * rho_squared + 1;
  return difference.standard_error * std::sqrt(2 * mixed / (n * rho_squared) * ln_term);
}

}  // namespace

void Moments::Add(double value) {
  ++count_;
  const double delta = value - mean_;
  mean_ += delta / static_cast<double>(count_);
  squares_ += delta * (value - mean_);
}

void Moments::Merge(const Moments& other) {
  if (other.count_ == 0) return;
  const auto n = static_cast<double>(count_), m = static_cast<double>(other.count_);
  const double delta = other.mean_ - mean_;
  squares_ += other.squares_ + delta * delta * n * m / (n + m);
  mean_ += delta * m / (n + m);
  count_ += other.count_;
}

double Moments::Variance() const {
  return count_ < 2 ? 0 : squares_ / static_cast<double>(count_ - 1);
}

Difference DifferenceOf(const Moments& control, const Moments& treatment) {
  Difference difference{.mean = treatment.mean() - control.mean(),
                        .count = control.count() + treatment.count()};
  if (control.count() < 2 || treatment.count() < 2) return difference;
  difference.standard_error =
      std::sqrt(control.Variance() / static_cast<double>(control.count()) +
                treatment.Variance() / static_cast<double>(treatment.count()));
  return difference;
}

Difference DifferenceOf(const Moments& paired) {
  Difference difference{.mean = paired.mean(), .count = paired.count()};
  if (paired.count() < 2) return difference;
  difference.standard_error = std::sqrt(paired.Variance() / static_cast<double>(paired.count()));
  return difference;
}

Bounds ConfidenceSequence(const Difference& difference, const SequenceOptions& options) {
  if (!Known(difference)) return {-kInfinity, kInfinity};
  const double rho_squared = RhoSquared(options.alpha, options.tuned_count);
  const double mixed = static_cast<double>(difference.count) * rho_squared + 1;
  const double half =
      HalfWidth(difference, rho_squared, std::log(std::sqrt(mixed) / options.alpha));
  return Around(difference.mean, half);
}

Bounds OneSidedSequences(const Difference& difference, const SequenceOptions& options) {
  if (!Known(difference)) return {-kInfinity, kInfinity};
  const double rho_squared = RhoSquared(2 * options.alpha, options.tuned_count);
  const double mixed = static_cast<double>(difference.count) * rho_squared + 1;
  const double half =
      HalfWidth(difference, rho_squared, std::log1p(std::sqrt(mixed) / (2 * options.alpha)));
  return Around(difference.mean, half);
}

double AnytimeP(const Difference& difference, const SequenceOptions& options) {
  if (!Known(difference)) return 1;
  const auto n = static_cast<double>(difference.count);
  const double rho_squared = RhoSquared(options.alpha, options.tuned_count);
  const double mixed = n * rho_squared + 1;
  const double z = difference.mean / difference.standard_error;
  const double ln_evidence = rho_squared * n * z * z / (2 * mixed) - std::log(mixed) / 2;
  return std::min(1.0, std::exp(-ln_evidence));
}

bool NaiveTestRejects(const Difference& difference, double alpha) {
  return Known(difference) &&
         std::fabs(difference.mean) > NormalQuantile(1 - alpha / 2) * difference.standard_error;
}

NonInferiority JudgeNonInferiority(const Difference& difference, double margin,
                                   const SequenceOptions& options) {
  const Bounds bounds = OneSidedSequences(difference, options);
  if (bounds.low > -margin) return NonInferiority::kNonInferior;
  if (bounds.high < -margin) return NonInferiority::kInferior;
  return NonInferiority::kUndecided;
}

Bounds QuantileRanks(int64_t count, double quantile, double alpha) {
  if (count < 2) return {0, 1};
  const auto t = static_cast<double>(count);
  const double l = (1.4 * std::log(std::log(2.1 * t)) + std::log(10 / alpha)) / t;
  const double half = 1.5 * std::sqrt(quantile * (1 - quantile) * l) + 0.8 * l;
  return {std::max(0.0, quantile - half), std::min(1.0, quantile + half)};
}

double SampleRatioLnBayesFactor(std::span<const int64_t> counts, std::span<const double> weights,
                                double concentration) {
  VERNIER_CHECK(counts.size() == weights.size());
  // ln B(a) of a Dirichlet is the sum of ln gamma(a_i) less ln gamma(sum a): a difference of two.
  double total = 0, ln_factor = 0;
  for (size_t arm = 0; arm < counts.size(); ++arm) {
    const auto count = static_cast<double>(counts[arm]);
    const double prior = concentration * weights[arm];
    ln_factor += LnGamma(prior + count) - LnGamma(prior) - count * std::log(weights[arm]);
    total += count;
  }
  return ln_factor - LnGamma(concentration + total) + LnGamma(concentration);
}

double SampleRatioP(std::span<const int64_t> counts, std::span<const double> weights) {
  VERNIER_CHECK(counts.size() == weights.size());
  double total = 0, statistic = 0;
  for (const int64_t count : counts) total += static_cast<double>(count);
  if (total == 0 || counts.size() < 2) return 1;
  for (size_t arm = 0; arm < counts.size(); ++arm) {
    const double expected = total * weights[arm];
    const double excess = static_cast<double>(counts[arm]) - expected;
    statistic += excess * excess / expected;
  }
  const boost::math::chi_squared chi_squared(static_cast<double>(counts.size() - 1));
  return boost::math::cdf(boost::math::complement(chi_squared, statistic));
}

ErrorProcess::ErrorProcess(double limit) {
  VERNIER_CHECK(limit > 0 && limit < 1);
  for (const double rate : {0.006, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5}) {
    if (rate <= limit) continue;
    alternatives_.push_back({std::log(rate / limit), std::log1p(-rate) - std::log1p(-limit)});
  }
  if (alternatives_.empty()) {  // a limit of half or more: something between it and 1
    const double rate = (1 + limit) / 2;
    alternatives_.push_back({std::log(rate / limit), std::log1p(-rate) - std::log1p(-limit)});
  }
}

void ErrorProcess::Add(bool error) {
  for (Alternative& alternative : alternatives_) {
    alternative.ln_ratio += error ? alternative.ln_error : alternative.ln_good;
  }
}

double ErrorProcess::LnEvidence() const {
  std::vector<double> ln_ratios;
  ln_ratios.reserve(alternatives_.size());
  for (const Alternative& alternative : alternatives_) ln_ratios.push_back(alternative.ln_ratio);
  return LnMean(ln_ratios);
}

MeanProcess::MeanProcess(double limit) : limit_(limit), ln_capitals_(std::size(kBets)) {
  VERNIER_CHECK(limit > 0);
}

void MeanProcess::Add(double value) {
  const double excess = std::max(value, 0.0) / limit_ - 1;
  for (size_t i = 0; i < ln_capitals_.size(); ++i) ln_capitals_[i] += std::log1p(kBets[i] * excess);
}

double MeanProcess::LnEvidence() const { return LnMean(ln_capitals_); }

double McNemarP(int64_t control_only, int64_t treatment_only) {
  const int64_t discordant = control_only + treatment_only;
  if (discordant == 0) return 1;
  const boost::math::binomial binomial(static_cast<double>(discordant), 0.5);
  const auto fewer = static_cast<double>(std::min(control_only, treatment_only));
  return std::min(1.0, 2 * boost::math::cdf(binomial, fewer));
}

double LnPreferenceEvidence(int64_t wins, int64_t losses) {
  const auto w = static_cast<double>(wins), l = static_cast<double>(losses);
  return LnBeta(1 + w, 1 + l) - LnBeta(1, 1) + (w + l) * std::log(2.0);
}

Bounds WinRateSequence(int64_t wins, int64_t losses, double alpha) {
  const auto w = static_cast<double>(wins), l = static_cast<double>(losses);
  const double ln_mixture = LnBeta(1 + w, 1 + l) - LnBeta(1, 1);
  const auto holds = [&](double rate) {
    return ln_mixture - w * std::log(rate) - l * std::log1p(-rate) < std::log(1 / alpha);
  };
  // The evidence is least at the observed rate and grows to both sides.
  const double observed = w + l == 0 ? 0.5 : w / (w + l);
  const auto edge = [&](double inside, double outside) {
    for (int i = 0; i < 50; ++i) {
      const double middle = (inside + outside) / 2;
      (holds(middle) ? inside : outside) = middle;
    }
    return outside;
  };
  return {edge(observed, 0), edge(observed, 1)};
}

double SplitSampleSize(double p, double margin, double alpha, double power) {
  const double z = NormalQuantile(1 - alpha) + NormalQuantile(power);
  return z * z * 2 * p * (1 - p) / (margin * margin);
}

double PairedSampleSize(double discordance, double margin, double alpha, double power) {
  const double z = NormalQuantile(1 - alpha) + NormalQuantile(power);
  return z * z * discordance / (margin * margin);
}

}  // namespace vernier
