"""Triton kernels. Importing one of these files imports Triton, so the functions above do it when they are called.

Every kernel computes what the portable kernels of the core (`rust/core/src/kernels`) specify, with every product and
sum rounded by itself: they are launched without fused multiply-adds. Offsets of rows are 64 bits wide.
"""
