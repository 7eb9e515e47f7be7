// cload is a closed-loop echo client that shares nothing with netbench, to check it: epoll, one message in flight on each
// connection, bytes counted and not looked at. It reads the server's processor time at both ends of the measured part.
//
//   cload ADDRESS PORT PID CONNS SIZE WARMUP_MS DURATION_MS
//
// It prints three numbers: messages, seconds, seconds of the server's processor time.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256 };

struct conn {
	int fd;
	size_t got;   // of the message under way
	size_t left;  // to send of it
};

static char *message, *buffer;
static size_t size;
static unsigned long messages;

static void die(const char *what) {
	fprintf(stderr, "cload: %s: %s\n", what, errno ? strerror(errno) : "the server closed the connection");
	exit(1);
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// cpu returns the processor time a process has used: fields 14 and 15 of /proc/PID/stat, which count clock ticks.
static double cpu(int pid) {
	char name[64], line[1024];
	unsigned long user, system;
	snprintf(name, sizeof name, "/proc/%d/stat", pid);
	FILE *f = fopen(name, "r");
	if (!f || !fgets(line, sizeof line, f)) die(name);
	fclose(f);
	char *rest = strrchr(line, ')'); // the name before it may hold anything
	if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) die(name);
	return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static void push(struct conn *c) {
	while (c->left > 0) {
		ssize_t n = write(c->fd, message + size - c->left, c->left);
		if (n < 0 && errno == EAGAIN) return; // the server's reading brings EPOLLOUT, an edge
		if (n < 0 && errno != EINTR) die("write");
		if (n > 0) c->left -= n;
	}
}

static void serve(struct conn *c) {
	push(c);
	ssize_t n;
	do {
		n = read(c->fd, buffer, size);
		if (n == 0) errno = 0;
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) die("read");
		if (n > 0) c->got += n;
		if (c->got == size) {
			messages++;
			c->got = 0;
			c->left = size;
			push(c);
			return; // nothing else can have come: one message is in flight
		}
	} while (n > 0 || errno == EINTR);
}

int main(int argc, char **argv) {
	if (argc != 8) {
		fprintf(stderr, "use: cload ADDRESS PORT PID CONNS SIZE WARMUP_MS DURATION_MS\n");
		return 2;
	}
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	int pid = atoi(argv[3]), conns = atoi(argv[4]), one = 1;
	size = atol(argv[5]);
	double warmup = atof(argv[6]) / 1e3, duration = atof(argv[7]) / 1e3;
	if (inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || conns < 1 || size < 1) {
		fprintf(stderr, "cload: use an IPv4 address, and positive numbers\n");
		return 2;
	}
	message = malloc(size);
	buffer = malloc(size);
	struct conn *all = calloc(conns, sizeof *all);
	if (!message || !buffer || !all) die("memory");
	memset(message, 'x', size);

	int ep = epoll_create1(0);
	if (ep < 0) die("epoll_create1");
	for (int i = 0; i < conns; i++) {
		struct conn *c = &all[i];
		c->fd = socket(AF_INET, SOCK_STREAM, 0);
		if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		fcntl(c->fd, F_SETFL, O_NONBLOCK); // only now: connect was to wait
		struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
		if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
		c->left = size;
		push(c);
	}

	struct epoll_event batch[BATCH];
	double begin = now() + warmup, end = begin + duration, cpu_before = 0;
	unsigned long before = 0;
	for (int measuring = 0;;) {
		double t = now();
		if (!measuring && t >= begin) {
			measuring = 1;
			cpu_before = cpu(pid);
			before = messages;
			begin = now();
		}
		if (t >= end) break;
		int n = epoll_wait(ep, batch, BATCH, 20);
		for (int i = 0; i < n; i++) serve(batch[i].data.ptr);
	}
	double cpu_after = cpu(pid);
	printf("%lu %.6f %.2f\n", messages - before, now() - begin, cpu_after - cpu_before);
	return 0;
}
