"""Kernels between matrix products: in C++ on the CPU where a compiler is found, in torch elsewhere."""
