// What a process must settle before it computes.
#pragma once

namespace ristretto {

// For a program that computes for minutes; the first thing in main. Memory that was freed stays with the process (every
// page otherwise comes from the operating system and goes back; large tensors: env/large_blocks.h), numbers below 1e-38
// (float; double: 1e-308) count as 0 (the gradients and moments of units that died go there, and an Intel processor
// takes ten times as long for products of these), and threads wait for each other 30 us, then sleep (beside other work
// a waiting thread holds the core of the one it waits for). Variables that are set already stay as they are. May start
// the program again by execv.
void prepare_to_compute(char** argv);

// Cores that this process may use: its affinity, and the quota of its control group; at least 1.
int usable_cores();

}  // namespace ristretto
