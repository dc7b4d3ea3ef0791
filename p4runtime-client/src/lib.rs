//! A P4Runtime client: sessions, arbitration, names and ids, batching, read-back.
