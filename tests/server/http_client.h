// A small blocking HTTP/1.1 client over a socket: enough to see every byte that the server sends.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace donar::server::testing {

struct Reply {
  int status = 0;                              // 0: the connection ended before a whole reply
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
};

class HttpClient {
 public:
  explicit HttpClient(int port, int receive_buffer = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0)
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~HttpClient() { close(); }
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // As a crash would: the peer gets a reset.
  void reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close();
  }
  void finish_sending() { shutdown(fd_, SHUT_WR); }

  void send_raw(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }

  using Headers = std::vector<std::pair<std::string, std::string>>;
  void send_request(const std::string& method, const std::string& target,
                    const std::string& body = {}, const Headers& headers = {}) {
    std::string text = method + " " + target + " HTTP/1.1\r\n";
    bool host = false;
    bool type = false;
    for (const auto& [name, value] : headers) {
      text += name + ": " + value + "\r\n";
      host = host || name == "Host";
      type = type || name == "Content-Type";
    }
    if (!host) text += "Host: localhost\r\n";
    if (!body.empty() && !type) text += "Content-Type: application/json\r\n";
    if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    send_raw(text + "\r\n" + body);
  }

  // A whole reply. `head_only`: to HEAD, or to look at a stream's head.
  Reply receive(bool head_only = false) {
    Reply reply;
    if (!fill_until([&] { return buffer_.find("\r\n\r\n") != std::string::npos; })) return reply;
    const size_t end = buffer_.find("\r\n\r\n");
    parse_head(buffer_.substr(0, end + 2), reply);
    buffer_.erase(0, end + 4);
    if (head_only || reply.status == 204 || reply.status == 304 || reply.status == 100)
      return reply;
    if (reply.header("transfer-encoding") == "chunked") {
      while (auto chunk = receive_chunk()) {
        if (chunk->empty()) return reply;
        reply.body += *chunk;
      }
      reply.status = 0;
    } else if (!reply.header("content-length").empty()) {
      const size_t size = std::stoul(reply.header("content-length"));
      if (!fill_until([&] { return buffer_.size() >= size; })) reply.status = 0;
      reply.body = buffer_.substr(0, size);
      buffer_.erase(0, size);
    } else {
      fill_until([] { return false; });
      reply.body = std::exchange(buffer_, {});
    }
    return reply;
  }

  // The next chunk of a stream, empty at its end; nullopt if the connection ends first.
  std::optional<std::string> receive_chunk() {
    if (!fill_until([&] { return buffer_.find("\r\n") != std::string::npos; })) return std::nullopt;
    const size_t line = buffer_.find("\r\n");
    const size_t size = std::strtoul(buffer_.c_str(), nullptr, 16);
    if (!fill_until([&] { return buffer_.size() >= line + 2 + size + 2; })) return std::nullopt;
    std::string chunk = buffer_.substr(line + 2, size);
    buffer_.erase(0, line + 2 + size + 2);
    return chunk;
  }

  // Reads until the server closes; what came.
  std::string receive_rest() {
    fill_until([] { return false; });
    return std::exchange(buffer_, {});
  }
  bool closed_by_peer() {
    fill_until([&] { return !buffer_.empty(); });
    return buffer_.empty();
  }

 private:
  template <class Done>
  bool fill_until(Done done) {
    char chunk[16384];
    while (!done()) {
      pollfd waiting{fd_, POLLIN, 0};
      if (poll(&waiting, 1, 15'000) <= 0)
        return false;  // far beyond anything that a passing test waits for
      const ssize_t got = recv(fd_, chunk, sizeof(chunk), 0);
      if (got <= 0) return false;
      buffer_.append(chunk, static_cast<size_t>(got));
    }
    return true;
  }

  static void parse_head(const std::string& head, Reply& reply) {
    reply.status = std::atoi(head.c_str() + head.find(' '));
    size_t at = head.find("\r\n") + 2;
    while (at < head.size()) {
      const size_t end = head.find("\r\n", at);
      const size_t colon = head.find(':', at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      reply.headers[name] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
  }

  int fd_;
  bool connected_ = false;
  std::string buffer_;
};

}  // namespace donar::server::testing
