// cepoll is an echo and broadcast server with as little as possible between epoll and the socket: the practical limit
// for a server that reads when it is told to and writes at once. One thread; per batch one epoll_wait, per message
// one read and one write; level-triggered. What the kernel does not take is kept and written on EPOLLOUT; in echo mode
// the client is not read meanwhile.
//
//   cepoll [-addr 127.0.0.1:0] [-loops 1] [-mode echo|broadcast] [-message BYTES]
//
// SIGTERM and SIGINT end it with exit code 0.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, BUFFER = 64 << 10 };

struct conn {
	int fd;
	int place;        // in members
	int armed;        // EPOLLOUT is asked for
	char *kept;       // bytes the kernel did not take
	size_t from, to;  // of kept
	size_t room;      // of kept
};

static int ep, echo = 1;
static ssize_t message; // broadcast: cut what came into pieces of this size; 0: do not
static struct conn **members;
static int count, places;
static char buffer[BUFFER];
static volatile sig_atomic_t stop;

static void on_signal(int s) { (void)s; stop = 1; }

static void die(const char *what) {
	perror(what);
	exit(1);
}

static void *must(void *p) {
	if (!p) die("cepoll: memory");
	return p;
}

static void watch(struct conn *c, int armed) {
	if (c->armed == armed) return;
	c->armed = armed;
	// In echo mode what waits to be written stops the reading; in broadcast mode it is other clients who send it.
	struct epoll_event e = {.events = armed ? (echo ? EPOLLOUT : EPOLLIN | EPOLLOUT) : EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e)) die("cepoll: epoll_ctl");
}

static void keep(struct conn *c, const char *p, size_t n) {
	if (c->from > 0 && c->to + n > c->room) {
		memmove(c->kept, c->kept + c->from, c->to - c->from);
		c->to -= c->from;
		c->from = 0;
	}
	if (c->to + n > c->room) {
		c->room = 2 * (c->to + n);
		c->kept = must(realloc(c->kept, c->room));
	}
	memcpy(c->kept + c->to, p, n);
	c->to += n;
}

// put writes, or keeps what the kernel does not take. A broken connection is found out by its own read.
static void put(struct conn *c, const char *p, size_t n) {
	if (c->from == c->to) {
		ssize_t w = write(c->fd, p, n);
		if (w < 0) {
			if (errno != EAGAIN && errno != EINTR) return;
			w = 0;
		}
		if ((size_t)w == n) return;
		p += w;
		n -= w;
	}
	keep(c, p, n);
	watch(c, 1);
}

// drain writes what was kept. It returns -1 when the connection is broken.
static int drain(struct conn *c) {
	ssize_t w = write(c->fd, c->kept + c->from, c->to - c->from);
	if (w < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
	c->from += w;
	if (c->from == c->to) {
		free(c->kept);
		c->kept = NULL;
		c->from = c->to = c->room = 0;
		watch(c, 0);
	}
	return 0;
}

static void join(int fd) {
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	struct conn *c = must(calloc(1, sizeof *c));
	c->fd = fd;
	if (count == places) {
		places = places ? 2 * places : 1024;
		members = must(realloc(members, places * sizeof *members));
	}
	c->place = count;
	members[count++] = c;
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) die("cepoll: epoll_ctl");
}

// leave frees c. An event of the same batch cannot name it: there is one per descriptor.
static void leave(struct conn *c) {
	members[c->place] = members[--count];
	members[c->place]->place = c->place;
	close(c->fd);
	free(c->kept);
	free(c);
}

static void accept_all(int listener) {
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			join(fd);
		else if (errno == EMFILE || errno == ENFILE)
			die("cepoll: accept: raise the limit on open files (ulimit -n)");
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

static void serve(struct conn *c, unsigned events) {
	if (events & EPOLLOUT && c->armed && drain(c)) {
		leave(c);
		return;
	}
	if (echo && c->armed && !(events & (EPOLLHUP | EPOLLERR))) return;
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
	ssize_t n = read(c->fd, buffer, sizeof buffer);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		leave(c);
		return;
	}
	if (n < 0) return;
	if (echo) {
		put(c, buffer, n);
		return;
	}
	for (ssize_t at = 0, size = message ? message : n; at < n; at += size)
		for (int i = 0; i < count; i++)
			if (members[i] != c) put(members[i], buffer + at, at + size < n ? size : n - at);
}

static int listen_on(const char *addr) {
	char host[64];
	const char *colon = strrchr(addr, ':');
	struct sockaddr_in a = {.sin_family = AF_INET};
	if (!colon || colon - addr >= (long)sizeof host) goto bad;
	memcpy(host, addr, colon - addr);
	host[colon - addr] = 0;
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) goto bad;
	a.sin_port = htons(atoi(colon + 1));
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) die("cepoll: socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 65535)) die("cepoll: listen");
	socklen_t len = sizeof a;
	getsockname(fd, (struct sockaddr *)&a, &len);
	printf("listening on %s:%d\n", host, ntohs(a.sin_port));
	fflush(stdout);
	return fd;
bad:
	fprintf(stderr, "cepoll: -addr %s: use an IPv4 address and a port, such as 127.0.0.1:0\n", addr);
	exit(2);
}

int main(int argc, char **argv) {
	const char *addr = "127.0.0.1:0";
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "-addr"))
			addr = value;
		else if (!strcmp(argv[i], "-mode") && (!strcmp(value, "echo") || !strcmp(value, "broadcast")))
			echo = !strcmp(value, "echo");
		else if (!strcmp(argv[i], "-message") && atol(value) >= 0)
			message = atol(value);
		else if (strcmp(argv[i], "-loops") || strcmp(value, "1")) {
			fprintf(stderr, "cepoll: %s %s: use -addr HOST:PORT, -mode echo or broadcast, -message BYTES, -loops 1\n", argv[i], value);
			return 2;
		}
	}
	struct sigaction action = {.sa_handler = on_signal};
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep < 0) die("cepoll: epoll_create1");
	int listener = listen_on(addr);
	struct epoll_event batch[BATCH], e = {.events = EPOLLIN, .data.ptr = NULL};
	if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e)) die("cepoll: epoll_ctl");
	while (!stop) {
		int n = epoll_wait(ep, batch, BATCH, -1);
		for (int i = 0; i < n; i++) {
			if (batch[i].data.ptr)
				serve(batch[i].data.ptr, batch[i].events);
			else
				accept_all(listener);
		}
	}
	return 0;
}
