// The server inside a C++ instance, compiled together with the function: takes frames from descriptor 3, calls the
// handler, answers. Started by compiled/launch.py, which has taken the assignment. One request at a time, as in the
// reference: handlers there share what is static without a lock.

#include "channel.h"
#include "execution.h"
#include "json.h"
#include "stack.h"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iostream>
#include <string>
#include <unistd.h>

namespace hearth {

// The user's handler (see handler.cc.in).
runtime::RuntimeOutput call(runtime::RuntimeContext &context);
extern const char *const entrypoint;

namespace {

// How long a process that has failed may take to say where: much, because a busy machine is no reason not to.
constexpr unsigned failureSeconds = 10;

std::atomic<bool> isLeaving = false;
std::atomic<bool> hasLoaded = false;
// The execution that runs, if one does; never destroyed, because threads may outlive `main`.
std::shared_ptr<Execution> &running() {
  static auto *held = new std::shared_ptr<Execution>();
  return *held;
}

// Tells whoever is concerned why this process is about to end.
void tell(const std::string &why) {
  if (isLeaving.exchange(true)) {
    return;
  }
  if (const auto execution = std::atomic_load(&running())) {
    execution->error(why);
    execution->flush();
  } else if (!hasLoaded) {
    Json::Value header;
    header["type"] = "load_failed";
    header["error"] = why + "\nFailed to load entrypoint " + entrypoint + ".";
    send(encoded(header));
    while (true) { // the host ends this instance
      receive();
    }
  }
}

void onExit() {
  const std::string why = "The function ended its process." + ownFrames();
  if (hasLoaded) {
    tell(why);
  } else { // the host tells what it has said, and the exit code
    std::fprintf(stderr, "%s\n", why.c_str());
  }
}

[[noreturn]] void onTerminate() {
  const auto problem = std::current_exception();
  tell(problem ? describe(problem) : "std::terminate was called" + ownFrames());
  std::abort();
}

// Shows where the process has failed, and lets it fail. What it needs may be broken or held by the thread that was
// interrupted: then the alarm ends it.
void onFailure(int signal) {
  std::signal(SIGALRM, [](int) { _exit(128 + SIGALRM); });
  alarm(failureSeconds);
  tell(std::string(strsignal(signal)) + ownFrames());
  std::signal(signal, SIG_DFL);
}

void hearFailures() {
  static char room[256 * 1024]; // for one that has used up the stack
  stack_t other{};
  other.ss_sp = room;
  other.ss_size = sizeof room;
  sigaltstack(&other, nullptr);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    struct sigaction action {};
    action.sa_handler = onFailure;
    action.sa_flags = SA_ONSTACK;
    sigaction(signal, &action, nullptr);
  }
}

// Before anything of the user's is initialized.
__attribute__((constructor(101))) void prepare() {
  fcntl(channelDescriptor, F_SETFD, FD_CLOEXEC);
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  std::set_terminate(onTerminate);
  std::atexit(onExit);
  hearFailures();
}

size_t takeNumber(const char *name) {
  const char *text = std::getenv(name);
  const size_t number = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  unsetenv(name);
  return number;
}

Json::Value enforcedHeaders() {
  Json::Value given, enforced(Json::objectValue);
  const char *text = std::getenv("OPEN_RUNTIMES_HEADERS");
  if (text != nullptr && parse(text, given) && given.isObject()) {
    for (auto member = given.begin(); member != given.end(); ++member) {
      enforced[lowered(member.name())] = textOf(*member);
    }
  }
  return enforced;
}

// What is still in buffers of the C and C++ libraries is output of this execution.
void flushOutput() {
  std::cout.flush();
  std::clog.flush();
  std::fflush(nullptr);
}

void serve(const Frame &first, const Json::Value &enforced, size_t window) {
  std::string body = first.body;
  for (bool isMore = first.more(); isMore;) {
    const Frame next = receive();
    body += next.body;
    isMore = next.more();
  }
  const auto execution = std::make_shared<Execution>(first.header);
  std::atomic_store(&running(), execution);
  runtime::RuntimeContext context;
  context.req = requestOf(first.header, std::move(body), enforced);
  context.logger = std::make_shared<runtime::RuntimeLogger>([execution](const char *stream, const std::string &line) {
    execution->write(stream, cut(line) + "\n");
  });
  try {
    const runtime::RuntimeOutput output = call(context);
    flushOutput();
    execution->finish(output, window);
  } catch (...) {
    flushOutput();
    execution->fail(describe(std::current_exception()));
  }
  std::atomic_store(&running(), std::shared_ptr<Execution>());
}

} // namespace

} // namespace hearth

int main() {
  using namespace hearth;
  takeNumber("HEARTH_CONCURRENCY");
  const size_t window = takeNumber("HEARTH_WINDOW");
  const Json::Value enforced = enforcedHeaders();
  flushOutput();
  Json::Value loaded;
  loaded["type"] = "loaded";
  loaded["concurrency"] = 1;
  send(encoded(loaded));
  hasLoaded = true;
  while (true) {
    const Frame frame = receive();
    if (frame.type() == "request") { // else a word about one that has ended
      serve(frame, enforced, window);
    }
  }
}
