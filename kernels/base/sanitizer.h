// VERNIER_CHECKS_ADDRESSES: 1 where AddressSanitizer is compiled in, else 0. VERNIER_SANITIZED: 1
// there and where ThreadSanitizer is.
//
// Macros alone: files of one instruction set include this too.
#pragma once

#if defined(__has_feature)  // clang; GCC says it by macros
#define VERNIER_CHECKS_ADDRESSES __has_feature(address_sanitizer)
#define VERNIER_CHECKS_THREADS __has_feature(thread_sanitizer)
#else
#ifdef __SANITIZE_ADDRESS__
#define VERNIER_CHECKS_ADDRESSES 1
#else
#define VERNIER_CHECKS_ADDRESSES 0
#endif
#ifdef __SANITIZE_THREAD__
#define VERNIER_CHECKS_THREADS 1
#else
#define VERNIER_CHECKS_THREADS 0
#endif
#endif

#define VERNIER_SANITIZED (VERNIER_CHECKS_ADDRESSES || VERNIER_CHECKS_THREADS)
