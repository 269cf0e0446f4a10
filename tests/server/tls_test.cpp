// HTTPS with a certificate that the test makes itself.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdio>
#include <filesystem>

#include "tests/server/server_fixture.h"

namespace donar::server::testing {
namespace {

// A self-signed certificate and its key, as two PEM files.
void make_certificate(const std::string& cert_path, const std::string& key_path) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();
  X509_set_version(cert, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), 0);
  X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
  X509_set_pubkey(cert, key);
  X509_NAME* name = X509_get_subject_name(cert);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(cert, name);
  ASSERT_GT(X509_sign(cert, key, EVP_sha256()), 0);
  FILE* file = std::fopen(cert_path.c_str(), "w");
  PEM_write_X509(file, cert);
  std::fclose(file);
  file = std::fopen(key_path.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  X509_free(cert);
  EVP_PKEY_free(key);
}

int connect_to(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

class Tls : public ServerTest {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("donar_tls_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    ServerConfig config = default_config();
    config.ssl_certfile = folder_ / "cert.pem";
    config.ssl_keyfile = folder_ / "key.pem";
    make_certificate(config.ssl_certfile, config.ssl_keyfile);
    start_ready(config);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(Tls, a_stream_comes_over_https) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL* ssl = SSL_new(context);
  const int fd = connect_to(port());
  SSL_set_fd(ssl, fd);
  ASSERT_EQ(SSL_connect(ssl), 1);
  const std::string body = R"({"prompt":"a","stream":true})";
  const std::string text =
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  ASSERT_EQ(SSL_write(ssl, text.data(), static_cast<int>(text.size())),
            static_cast<int>(text.size()));
  std::string got;
  char chunk[4096];
  while (got.find("\r\n0\r\n\r\n") == std::string::npos) {
    const int size = SSL_read(ssl, chunk, sizeof(chunk));
    ASSERT_GT(size, 0) << got;
    got.append(chunk, static_cast<size_t>(size));
  }
  EXPECT_EQ(got.rfind("HTTP/1.1 200 OK\r\n", 0), 0u);
  EXPECT_NE(got.find("data: [DONE]"), std::string::npos);
  SSL_free(ssl);
  ::close(fd);
  SSL_CTX_free(context);
}

TEST_F(Tls, plain_http_on_the_tls_port_does_no_harm) {
  {
    HttpClient plain(port());
    plain.send_request("GET", "/health");
    EXPECT_EQ(plain.receive().status, 0);
  }
  const int silent =
      connect_to(port());  // never shakes hands; stop() must not wait for it for long
  server_->stop();
  ::close(silent);
}

}  // namespace
}  // namespace donar::server::testing
