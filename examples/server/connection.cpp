#include "connection.h"

#include <cstdlib>
#include <dirent.h>
#include <memory>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

namespace server {

static bool is_peer(int descriptor, const httplib::Request & request) {
    sockaddr_storage address = {};
    socklen_t size = sizeof address;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    auto * const generic = reinterpret_cast<sockaddr *>(&address);
    if (getpeername(descriptor, generic, &size) != 0) return false; // no connection
    if (getnameinfo(generic, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    return atoi(port) == request.remote_port && request.remote_addr == host;
}

Connection::Connection(const httplib::Request & request) {
    const std::unique_ptr<DIR, int (*)(DIR *)> folder(opendir("/proc/self/fd"), closedir);
    while (folder && descriptor_ < 0) {
        const dirent * const entry = readdir(folder.get());
        if (!entry) break;
        const int descriptor = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && is_peer(descriptor, request)) descriptor_ = descriptor;
    }
}

bool Connection::is_gone() const {
    if (descriptor_ < 0) return false;
    pollfd now = {descriptor_, POLLRDHUP, 0};
    return poll(&now, 1, 0) > 0;
}

} // namespace server
