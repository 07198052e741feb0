// Certificates made by the test itself: authorities, and what they sign.
#pragma once

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

namespace vernier::testing {

// A key pair and its certificate, in PEM.
struct Certificate {
  std::string certificate, key;
};

// An authority of its own. One thread at a time.
class Authority {
 public:
  Authority() : key_(EVP_EC_gen("P-256")), certificate_(Make(key_.get(), "authority", 3600)) {
    AddExtension(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
    X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
    X509_sign(certificate_.get(), key_.get(), EVP_sha256());
  }

  std::string certificate() const { return PemOf(certificate_.get()); }

  // For "localhost" and 127.0.0.1, valid until `seconds` from now: negative for one that has
  // expired.
  Certificate Issue(long seconds = 3600) const {
    const Key key(EVP_EC_gen("P-256"));
    const X509Pointer made(Make(key.get(), "localhost", seconds));
    X509_set_issuer_name(made.get(), X509_get_subject_name(certificate_.get()));
    AddExtension(made.get(), NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    X509_sign(made.get(), key_.get(), EVP_sha256());
    return {PemOf(made.get()), PemOf(key.get())};
  }

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(BIO* memory) const { BIO_free(memory); }
  };
  using Key = std::unique_ptr<EVP_PKEY, Free>;
  using X509Pointer = std::unique_ptr<X509, Free>;

  static X509* Make(EVP_PKEY* key, const char* name, long seconds) {
    static long serial = 0;
    X509* out = X509_new();
    X509_set_version(out, 2);  // v3
    ASN1_INTEGER_set(X509_get_serialNumber(out), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(out), -86400);
    X509_gmtime_adj(X509_getm_notAfter(out), seconds);
    X509_set_pubkey(out, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(out), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
    return out;
  }
  static void AddExtension(X509* certificate, int kind, const char* value) {
    X509_EXTENSION* made = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
    X509_add_ext(certificate, made, -1);
    X509_EXTENSION_free(made);
  }
  template <typename T>
  static std::string PemOf(T* thing) {
    const std::unique_ptr<BIO, Free> memory(BIO_new(BIO_s_mem()));
    if constexpr (std::is_same_v<T, X509>) {
      PEM_write_bio_X509(memory.get(), thing);
    } else {
      PEM_write_bio_PrivateKey(memory.get(), thing, nullptr, nullptr, 0, nullptr, nullptr);
    }
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &bytes);
    return std::string(bytes, static_cast<size_t>(size));
  }

  const Key key_;
  const X509Pointer certificate_;
};

inline void WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  ASSERT_TRUE(file.good()) << path;
}

}  // namespace vernier::testing
