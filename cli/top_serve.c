/* The smallest HTTP server that Prometheus needs: loopback only, one connection at a time, each
 * with two seconds to ask. Anything but GET /metrics (or /) is 404. */
#include "out.h"
#include "top.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { REQUEST_CAP = 4096 };

static int listen_on(uint32_t port) {
    const struct sockaddr_in address = {.sin_family = AF_INET,
                                        .sin_port = htons((uint16_t)port),
                                        .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 8) != 0) {
        cli_error("top: port %u: %s", port, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

/* Reads up to the empty line behind the headers; false where it does not come. */
static bool read_request(int fd, char *text, size_t cap) {
    size_t n = 0;
    while (n + 1 < cap) {
        const ssize_t got = recv(fd, text + n, cap - 1 - n, 0);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        text[n] = '\0';
        if (strstr(text, "\r\n\r\n") != NULL || strstr(text, "\n\n") != NULL) {
            return true;
        }
    }
    return false;
}

static void send_all(int fd, const char *data, size_t n) {
    while (n > 0) {
        const ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        data += sent;
        n -= (size_t)sent;
    }
}

static void answer(struct top *top, int fd) {
    char request[REQUEST_CAP], head[256];
    tl_bytes body = {0};
    if (!read_request(fd, request, sizeof request)) {
        return;
    }
    const bool known =
        strncmp(request, "GET /metrics ", 13) == 0 || strncmp(request, "GET / ", 6) == 0;
    top_refresh(top, false);
    const bool ok = known && top_prometheus(top, &body) == TL_OK;
    const int n =
        snprintf(head, sizeof head,
                 "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                 "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                 ok      ? "200 OK"
                 : known ? "500 Internal Server Error"
                         : "404 Not Found",
                 ok ? body.len : 0);
    send_all(fd, head, (size_t)n);
    send_all(fd, body.data != NULL ? body.data : "", ok ? body.len : 0);
    tl_bytes_free(&body);
}

int top_serve(struct top *top, uint32_t port) {
    const int fd = listen_on(port);
    if (fd < 0) {
        return 1;
    }
    printf("http://127.0.0.1:%u/metrics\n", port);
    fflush(stdout);
    while (!cli_interrupted()) {
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        if (poll(&waiting, 1, -1) <= 0) {
            continue; /* a signal */
        }
        const int client = accept(fd, NULL, NULL);
        const struct timeval limit = {.tv_sec = 2};
        if (client >= 0) {
            setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
            setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
            answer(top, client);
            close(client);
        }
    }
    close(fd);
    return 0;
}
