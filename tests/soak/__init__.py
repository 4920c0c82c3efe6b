"""`make soak`: honest clients beside everything that is known to go wrong, for as long as is asked.

Three processes beside the two gateways (one plain, one with TLS): `honest` is measured, `attacks`
does the harm, and `__main__` starts them, asks for `/health` and reads the gateways' memory. What
must hold is in `bounds`. The gateways have the first core, everything else the others.
"""
