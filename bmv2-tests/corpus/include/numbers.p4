// For preprocessor.p4. It is an error to read this file twice.
#ifndef NUMBERS
#define NUMBERS
#define BASE 0x10
#define ADD(x, y) ((x) + (y))
#define TWICE(x) ADD(x, x)
#define TABLE_OF(NAME, KEY, ACTION) \
    table NAME { key = { KEY: exact; } actions = { ACTION; } default_action = ACTION(); }
#else
#error "read twice"
#endif
