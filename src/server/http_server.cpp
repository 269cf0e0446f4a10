// Listening, the I/O threads and stopping. Also the one file that compiles Boost.Asio itself
// (BOOST_ASIO_SEPARATE_COMPILATION).
#include "server/http_server.h"

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/impl/src.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "base/log.h"
#include "server/http_connection.h"

namespace donar::server {

struct HttpServer::Impl {
  struct IoThread {
    std::unordered_set<Connection*> connections;  // this thread's only; outlives the context
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> guard{context.get_executor()};
    std::thread thread;
  };

  HttpConfig config;
  HttpHandler& handler;
  std::optional<asio::ssl::context> tls;
  std::unique_ptr<asio::thread_pool> workers;
  std::vector<std::unique_ptr<IoThread>> threads;
  std::vector<std::unique_ptr<tcp::acceptor>> acceptors;  // on the first thread
  size_t next_thread = 0;
  int port = 0;
  bool running = false;
  std::atomic<bool> stopping{false};

  std::mutex mutex;
  std::condition_variable changed;
  size_t num_connections = 0;

  Impl(HttpConfig config_in, HttpHandler& handler_in)
      : config(std::move(config_in)), handler(handler_in) {}

  Result<void> load_tls();
  Result<void> listen();
  asio::awaitable<void> accept_loop(tcp::acceptor& acceptor);
  void adopt(IoThread& thread, tcp::socket socket);
  bool wait_until_empty(std::chrono::milliseconds limit);
};

HttpServer::HttpServer(HttpConfig config, HttpHandler& handler)
    : impl_(std::make_unique<Impl>(std::move(config), handler)) {}

HttpServer::~HttpServer() { stop(); }

int HttpServer::port() const { return impl_->port; }

Result<void> HttpServer::Impl::load_tls() {
  if (config.ssl_certfile.empty() != config.ssl_keyfile.empty())
    return fail(ErrorCode::kInvalidArgument, "TLS needs both --ssl-certfile and --ssl-keyfile");
  if (config.ssl_certfile.empty()) return {};
  tls.emplace(asio::ssl::context::tls_server);
  tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                   asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                   asio::ssl::context::no_tlsv1_1);
  error_code error;
  tls->use_certificate_chain_file(config.ssl_certfile, error);
  if (error)
    return fail(ErrorCode::kInvalidArgument, "--ssl-certfile {}: {}", config.ssl_certfile,
                error.message());
  tls->use_private_key_file(config.ssl_keyfile, asio::ssl::context::pem, error);
  if (error)
    return fail(ErrorCode::kInvalidArgument, "--ssl-keyfile {}: {}", config.ssl_keyfile,
                error.message());
  return {};
}

Result<void> HttpServer::Impl::listen() {
  asio::io_context& context = threads.front()->context;
  error_code error;
  tcp::resolver resolver(context);
  const auto found =
      resolver.resolve(config.host, std::to_string(config.port),
                       tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error)
    return fail(ErrorCode::kInvalidArgument, "cannot listen on {}: {}", config.host,
                error.message());
  for (const auto& entry : found) {  // "localhost" may be 127.0.0.1 and ::1
    tcp::endpoint endpoint = entry.endpoint();
    if (port != 0) endpoint.port(static_cast<uint16_t>(port));
    auto acceptor = std::make_unique<tcp::acceptor>(context);
    acceptor->open(endpoint.protocol(), error);
    if (!error) acceptor->set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      if (!acceptors.empty()) continue;
      return fail(error == asio::error::access_denied ? ErrorCode::kPermissionDenied
                                                      : ErrorCode::kInvalidArgument,
                  "cannot listen on {}:{}: {}; choose another address with --host or --port",
                  config.host, config.port, error.message());
    }
    if (port == 0) port = acceptor->local_endpoint().port();
    acceptors.push_back(std::move(acceptor));
  }
  return {};
}

Result<void> HttpServer::start() {
  Impl& impl = *impl_;
  if (auto loaded = impl.load_tls(); !loaded) return loaded;
  for (int i = 0; i < std::max(1, impl.config.io_threads); ++i)
    impl.threads.push_back(std::make_unique<Impl::IoThread>());
  if (auto bound = impl.listen(); !bound) {
    impl.acceptors.clear();
    impl.threads.clear();
    return bound;
  }
  impl.workers = std::make_unique<asio::thread_pool>(std::max(1, impl.config.worker_threads));
  for (auto& acceptor : impl.acceptors)
    asio::co_spawn(impl.threads.front()->context, impl.accept_loop(*acceptor), asio::detached);
  for (auto& thread : impl.threads)
    thread->thread = std::thread([context = &thread->context] { context->run(); });
  impl.running = true;
  return {};
}

asio::awaitable<void> HttpServer::Impl::accept_loop(tcp::acceptor& acceptor) {
  while (acceptor.is_open()) {
    IoThread& thread = *threads[next_thread++ % threads.size()];
    auto [error, socket] = co_await acceptor.async_accept(thread.context, kAwait);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {  // out of file descriptors, or a client that left at once
      log_warn("accept: {}", error.message());
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(100));
      co_await pause.async_wait(kAwait);
      continue;
    }
    {
      std::lock_guard lock(mutex);
      if (num_connections >= config.max_connections) continue;  // the socket closes
      ++num_connections;
    }
    asio::post(thread.context, [this, &thread, accepted = std::move(socket)]() mutable {
      adopt(thread, std::move(accepted));
    });
  }
}

void HttpServer::Impl::adopt(IoThread& thread, tcp::socket socket) {
  if (stopping) {
    std::lock_guard lock(mutex);
    --num_connections;
    changed.notify_all();
    return;
  }
  auto connection = std::make_shared<Connection>(
      Connection::Shared{config, handler, *workers, tls ? &*tls : nullptr}, std::move(socket),
      [this, &thread](Connection* gone) {
        thread.connections.erase(gone);
        std::lock_guard lock(mutex);
        --num_connections;
        changed.notify_all();
      });
  thread.connections.insert(connection.get());
  connection->start();
}

bool HttpServer::Impl::wait_until_empty(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex);
  return changed.wait_for(lock, limit, [&] { return num_connections == 0; });
}

void HttpServer::stop() {
  Impl& impl = *impl_;
  if (!impl.running) return;
  impl.running = false;
  impl.stopping = true;
  asio::post(impl.threads.front()->context, [&impl] {
    error_code ignored;
    for (auto& acceptor : impl.acceptors) acceptor->close(ignored);
  });
  const auto for_all = [&impl](void (Connection::*action)()) {
    for (auto& thread : impl.threads)
      asio::post(thread->context, [thread = thread.get(), action] {
        std::vector<std::shared_ptr<Connection>> all;  // an action may end its connection
        for (Connection* connection : thread->connections)
          if (auto alive = connection->weak_from_this().lock()) all.push_back(std::move(alive));
        for (auto& connection : all) (connection.get()->*action)();
      });
  };
  for_all(&Connection::shutdown);
  if (!impl.wait_until_empty(std::chrono::seconds(2))) {
    for_all(&Connection::force_close);
    impl.wait_until_empty(std::chrono::seconds(1));
  }
  impl.workers->join();  // jobs hold exchanges, which hold connections
  impl.wait_until_empty(std::chrono::seconds(1));
  for (auto& thread : impl.threads) {
    thread->guard.reset();
    thread->context.stop();
  }
  for (auto& thread : impl.threads) thread->thread.join();
  impl.acceptors.clear();
  impl.threads.clear();
  impl.workers.reset();
}

}  // namespace donar::server
