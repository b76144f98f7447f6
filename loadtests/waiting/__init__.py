"""What a waiting room of ten million people costs: ``python -m loadtests.waiting``.

`people` has the crowd and its commands, `queues` what a service would use otherwise; one module a
subject: `joins` (the server), `growth`, `clients` (through the public clients), `positions`,
`admission`.
"""
