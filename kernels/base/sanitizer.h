// VERNIER_CHECKS_ADDRESSES: 1 where AddressSanitizer is compiled in, else 0. VERNIER_SANITIZED: 1
// there and where ThreadSanitizer is.
//
// Macros alone: files of one instruction set include this too.
#pragma once

// GCC's macros first: libraries define a __has_feature for it that knows nothing.
#if defined(__SANITIZE_ADDRESS__)
#define VERNIER_CHECKS_ADDRESSES 1
#elif defined(__clang__)
#define VERNIER_CHECKS_ADDRESSES __has_feature(address_sanitizer)
#else
#define VERNIER_CHECKS_ADDRESSES 0
#endif

#if defined(__SANITIZE_THREAD__)
#define VERNIER_CHECKS_THREADS 1
#elif defined(__clang__)
#define VERNIER_CHECKS_THREADS __has_feature(thread_sanitizer)
#else
#define VERNIER_CHECKS_THREADS 0
#endif

#define VERNIER_SANITIZED (VERNIER_CHECKS_ADDRESSES || VERNIER_CHECKS_THREADS)
