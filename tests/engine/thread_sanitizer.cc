// What ThreadSanitizer must not report in this binary; without it, nobody calls this.

// Debian's Abseil is not instrumented: the counter of an absl::Status shared by two threads is
// atomic in libabsl_status.so, where ThreadSanitizer does not see it.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:libabsl_status.so\n"; }
