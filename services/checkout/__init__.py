"""Checkout: turns a quote into a paid order, by conducting pricing, inventory and payment.

Who calls whom, from a request to the books:

    service      reads the request and writes the answer
    placing      judges the quote, keeps the order under the request's key, and waits for the verdict
    runner       runs each order's saga in a task of its own
    coordinator  does what the table in saga.py says, through its ports
    clients      asks inventory and payment for an action
    journal      writes what happened, grouped over all orders, through store
"""
