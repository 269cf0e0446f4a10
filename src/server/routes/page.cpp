// GET / and the page's files.
#include "server/page.h"

#include "server/routes.h"

namespace donar::server {

void handle_page(ServerState&, std::shared_ptr<Exchange> exchange) {
  exchange->respond(serve_page(page_assets(), exchange->request()));
}

}  // namespace donar::server
