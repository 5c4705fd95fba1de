#include "fault_shim.h"

const char * const fault_call_names[FAULT_CALLS] = {"open",   "read",   "write", "size", "sync",   "rename", "close",
                                                    "remove", "folder", "stat",  "lock", "memory", "thread", "any"};
