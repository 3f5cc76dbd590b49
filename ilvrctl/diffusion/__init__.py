"""The diffusion process: levels, noise, the low-pass filter, the network's prediction and the samplers.

Notation, here and everywhere else (the papers' symbols; levels count up with noise, -1 is clean):

====================  ===========================================================================
``t``, ``s``          a level and the next, cleaner one of the chain (original levels, 0 .. T-1)
``abar_t``            cumulative product of ``1 - beta``
``alpha_t, sigma_t``  ``sqrt(abar_t)``, ``sqrt(1 - abar_t)``
``x_t``               ``alpha_t x0 + sigma_t eps``, pictures in [-1, 1], shape (B, 3, H, W)
``x0``, ``eps``       the clean picture and the noise in it, or the network's estimates of them
``y``                 the reference picture; ``y_t`` the reference noised to level t
``phi_N``             the low-pass filter ``up_N . down_N``
``N``                 the factor of down-sampling inside ``phi_N``
====================  ===========================================================================
"""
