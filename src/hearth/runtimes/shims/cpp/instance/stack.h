// Where an exception came from: the frames of the user's own code.
#pragma once

#include <exception>
#include <string>
#include <vector>

namespace hearth {

// An exception as its author should read it: its type, what it says, and the frames of his code that threw it.
std::string describe(const std::exception_ptr &problem);

// The frames of the user's code that run now, a line each; `""` if there are none.
std::string ownFrames();

} // namespace hearth
