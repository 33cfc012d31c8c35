#include "stack.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <map>
#include <mutex>
#include <spawn.h>
#include <stdexcept>
#include <sys/wait.h>
#include <typeinfo>
#include <unistd.h>

namespace {

constexpr int framesMax = 64;
constexpr size_t outputMaxBytes = 1024 * 1024;
constexpr const char *resolver = "/usr/bin/addr2line"; // of binutils, which every compiler needs

using Addresses = std::vector<void *>;

Addresses addressesHere() {
  void *found[framesMax];
  const int count = backtrace(found, framesMax);
  return Addresses(found, found + count);
}

struct Thrown {
  void *object = nullptr;
  Addresses addresses;
};

// The latest throw of each thread.
thread_local Thrown latest;

} // namespace

// Instead of that of the C++ library, which it calls: an exception does not know where it was thrown.
// The compiler has a declaration of its own for this name, so it is given to the linker only.
extern "C" [[noreturn]] void hearthThrow(void *object, std::type_info *type, void (*destructor)(void *)) __asm__(
    "__cxa_throw");

void hearthThrow(void *object, std::type_info *type, void (*destructor)(void *)) {
  using Throw = void (*)(void *, std::type_info *, void (*)(void *));
  static const Throw original = reinterpret_cast<Throw>(dlsym(RTLD_NEXT, "__cxa_throw"));
  latest.addresses = addressesHere();
  latest.object = object;
  original(object, type, destructor);
  __builtin_unreachable();
}

namespace hearth {

namespace {

struct Program {
  uintptr_t base = 0, begin = 0, end = 0;
};

// Where this program's own code is in memory.
Program program() {
  Program found;
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *into) {
        auto *here = static_cast<Program *>(into);
        here->base = info->dlpi_addr;
        for (int at = 0; at < info->dlpi_phnum; at++) {
          const auto &part = info->dlpi_phdr[at];
          if (part.p_type == PT_LOAD && (part.p_flags & PF_X) != 0) {
            here->begin = info->dlpi_addr + part.p_vaddr;
            here->end = here->begin + part.p_memsz;
          }
        }
        return 1; // the first one is the program itself
      },
      &found);
  return found;
}

std::string outputOf(std::vector<std::string> words) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return "";
  }
  std::vector<char *> arguments;
  for (auto &word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int problem = posix_spawn(&child, words[0].c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  if (problem == 0) {
    char piece[4096];
    ssize_t count;
    while ((count = read(ends[0], piece, sizeof piece)) > 0 && output.size() < outputMaxBytes) {
      output.append(piece, static_cast<size_t>(count));
    }
    close(ends[0]);
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
  } else {
    close(ends[0]);
  }
  return output;
}

// What the resolver says of one address: pairs of a function and its place. Those of ours and of libraries are left
// out: the user's files are named relative to his folder (see build/cpp.py).
std::string linesOf(const std::vector<std::string> &said) {
  std::string lines;
  for (size_t at = 0; at + 1 < said.size(); at += 2) {
    std::string place = said[at + 1].substr(0, said[at + 1].find(" (discriminator"));
    if (place.rfind("./", 0) == 0) {
      lines += "\n    at " + said[at] + " (" + place.substr(place.find_first_not_of("./")) + ")";
    }
  }
  return lines;
}

// The user's frames among these return addresses. Each address is looked up once in the life of this process.
std::string framesOf(const Addresses &addresses) {
  static const Program here = program();
  static std::mutex lock;
  static auto &known = *new std::map<uintptr_t, std::string>(); // also used when the process ends
  const std::lock_guard<std::mutex> alone(lock);
  std::vector<uintptr_t> wanted;
  for (void *address : addresses) {
    const auto at = reinterpret_cast<uintptr_t>(address);
    if (at > here.begin && at <= here.end) {
      wanted.push_back(at - 1 - here.base); // within the call, not after it
    }
  }
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  std::vector<std::string> words{resolver, "-a", "-f", "-C", "-i", "-e", std::string(path, length > 0 ? length : 0)};
  std::vector<uintptr_t> asked;
  for (const uintptr_t address : wanted) {
    if (known.emplace(address, "").second) {
      char text[32];
      std::snprintf(text, sizeof text, "0x%zx", static_cast<size_t>(address));
      words.emplace_back(text);
      asked.push_back(address);
    }
  }
  if (!asked.empty()) {
    const std::string output = outputOf(words);
    std::vector<std::string> said;
    size_t index = 0;
    const auto note = [&] {
      if (index > 0 && index <= asked.size()) {
        known[asked[index - 1]] = linesOf(said);
      }
      said.clear();
    };
    for (size_t at = 0; at < output.size();) {
      const size_t end = std::min(output.find('\n', at), output.size());
      const std::string line = output.substr(at, end - at);
      if (line.rfind("0x", 0) == 0) {
        note();
        index++;
      } else {
        said.push_back(line);
      }
      at = end + 1;
    }
    note();
  }
  std::string frames;
  for (const uintptr_t address : wanted) {
    frames += known[address];
  }
  return frames;
}

std::string readable(const char *name) {
  int status = 0;
  char *text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string found = status == 0 ? text : name;
  std::free(text);
  return found;
}

} // namespace

std::string describe(const std::exception_ptr &problem) {
  // Taken first: whatever is thrown from here on is another one. An exception_ptr is a pointer to its object.
  void *object = nullptr;
  std::memcpy(&object, &problem, sizeof object);
  const Addresses addresses = latest.object == object ? latest.addresses : Addresses();
  std::string text;
  try {
    std::rethrow_exception(problem);
  } catch (const std::exception &error) {
    text = readable(typeid(error).name()) + ": " + error.what();
  } catch (const std::string &words) {
    text = words;
  } catch (const char *words) {
    text = words;
  } catch (...) {
    const std::type_info *type = abi::__cxa_current_exception_type();
    text = "an exception of the type " + (type == nullptr ? std::string("unknown") : readable(type->name()));
  }
  return text + framesOf(addresses);
}

std::string ownFrames() { return framesOf(addressesHere()); }

} // namespace hearth
