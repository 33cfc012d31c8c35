// The server as one file: its headers, most of what there is to compile, are read once.
#include "channel.cc"
#include "execution.cc"
#include "json.cc"
#include "main.cc"
#include "stack.cc"
