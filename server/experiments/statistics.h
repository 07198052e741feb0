// What may be concluded from two arms, at any look: the statistics of experiments.
//
// Everything that decides while data come in is valid whenever it is looked at (confidence
// sequences, e-values), so a chart can be watched and a guardrail can act at once. Sources: the
// asymptotic confidence sequences of Waudby-Smith et al. (arXiv 2103.06476, equations 9, 134, 155,
// 161), the sequential test of a split of Lindon and Malek (2011.03567). Pure values, no lock; sums
// depend on the order of Add alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace vernier {

// Count, mean and squared deviations of one arm's values (Welford 1962).
class Moments {
 public:
  Moments() = default;
  // REQUIRES: `squares` are the squared deviations of `count` values from their `mean`.
  Moments(int64_t count, double mean, double squares)
      : count_(count), mean_(mean), squares_(squares) {}
  void Add(double value);
  // Chan et al. 1979. The order of merges is the caller's, who wants equal bits.
  void Merge(const Moments& other);

  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double Variance() const;  // unbiased; 0 of fewer than two

 private:
  int64_t count_ = 0;
  double mean_ = 0;
  double squares_ = 0;
};

// Treatment less control: the difference of means and its standard error.
struct Difference {
  double mean = 0;
  double standard_error = 0;
  int64_t count = 0;  // of both arms
};
Difference DifferenceOf(const Moments& control, const Moments& treatment);
// Of values that are differences already, one a pair.
Difference DifferenceOf(const Moments& paired);

struct Bounds {
  double low = 0;
  double high = 0;
};

// How wide sequences are, and when: narrowest at `tuned_count` values of both arms together.
struct SequenceOptions {
  double alpha = 0.05;
  double tuned_count = 5000;
};

// Both bounds hold at every look at once with probability 1 - alpha. Infinite while the error is
// not known (fewer than two values an arm, or no spread yet).
Bounds ConfidenceSequence(const Difference& difference, const SequenceOptions& options);
// Each bound holds alone, at every look, with probability 1 - alpha: for guardrails and margins.
Bounds OneSidedSequences(const Difference& difference, const SequenceOptions& options);
// The smallest alpha at which the two-sided sequence leaves 0 out; valid at any look.
double AnytimeP(const Difference& difference, const SequenceOptions& options);

// |difference| > z * error, looked at once: what one may not do repeatedly. To show beside.
bool NaiveTestRejects(const Difference& difference, double alpha);

enum class NonInferiority : uint8_t { kUndecided, kNonInferior, kInferior };
// Larger is better: the treatment may lose less than `margin` > 0 (Spotify Confidence's rule on
// one-sided sequences).
NonInferiority JudgeNonInferiority(const Difference& difference, double margin,
                                   const SequenceOptions& options);

// The ranks, as shares of `count` values, between which a quantile lies at every look at once with
// probability 1 - alpha: [0, 1] while too little is known (Howard and Ramdas, arXiv 1906.09712).
// Wide: for alarms.
Bounds QuantileRanks(int64_t count, double quantile, double alpha);

// ---- Sample ratio ----

// ln of the Bayes factor against the split `weights` (sum 1, each > 0), at any time: a mismatch at
// level alpha where it exceeds ln(1 / alpha).
double SampleRatioLnBayesFactor(std::span<const int64_t> counts, std::span<const double> weights,
                                double concentration = 1000);
// Pearson's chi-squared p, for one look at the end.
double SampleRatioP(std::span<const int64_t> counts, std::span<const double> weights);

// ---- Events that should not happen ----

// Evidence that errors come more often than `limit`: a mean over alternatives of likelihood ratios,
// an e-process, so 1000 is crossed by chance with probability 1/1000 at most, however long it runs.
class ErrorProcess {
 public:
  explicit ErrorProcess(double limit);  // 0 < limit < 1
  void Add(bool error);
  double LnEvidence() const;

 private:
  struct Alternative {
    double ln_error, ln_good;  // what one event adds
    double ln_ratio = 0;
  };
  std::vector<Alternative> alternatives_;
};

// Evidence that values that are not negative have a mean above `limit` > 0: what a gambler has who
// bets a fixed share of it on each, averaged over shares (Waudby-Smith and Ramdas, arXiv
// 2010.09686). An e-process for every distribution on [0, inf): no variance, no bound, no least
// count.
class MeanProcess {
 public:
  explicit MeanProcess(double limit);
  void Add(double value);  // REQUIRES: finite; below 0 counts as 0
  double LnEvidence() const;

 private:
  double limit_;
  std::vector<double> ln_capitals_;  // by share
};

// ---- Pairs ----

// McNemar's exact two-sided p: the chance of so uneven a split of the discordant pairs.
double McNemarP(int64_t control_only, int64_t treatment_only);
// ln of the evidence, at any time, that one of two answers is preferred; ties are left out.
double LnPreferenceEvidence(int64_t wins, int64_t losses);
// The rates of wins against which that evidence is below 1 / alpha: both hold at every look.
Bounds WinRateSequence(int64_t wins, int64_t losses, double alpha);

// ---- Planning, for a fixed number of values ----

// Values an arm to show non-inferiority of a rate `p` with `margin`, one-sided.
double SplitSampleSize(double p, double margin, double alpha, double power);
// Pairs, of which a share `discordance` differs.
double PairedSampleSize(double discordance, double margin, double alpha, double power);

}  // namespace vernier
