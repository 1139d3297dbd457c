"""Client mode: the judge plays the worker, and the client under test is wrapped in a driver.

The public shape, from the case outwards:

* A case is an async function of a ``context.ClientContext``, declared with ``role="client"`` and a
  name that begins ``client-``, in ``muxwire_conformance.cases_client``. CASES.md has the words.
* ``context.ClientContext`` starts the driver, makes requests through it (``Call``) and accepts the
  client's connections (``link.Link``), on which requests appear as ``exchange.Exchange``.
* ``driver.Driver`` is the process, ``grammar`` reads its lines, ``watcher.LinkWatcher`` checks
  every frame that the client sends.
* ``session.ClientSession`` runs cases; ``session.preflight`` looks at the driver first. To judge a
  command line from a test::

      findings = await preflight(command, patience, seed=1)
      session = ClientSession(command=command, cases=cases, patience=patience, findings=findings,
                              options=Options(), on_result=results.append,
                              library=load_cases("client"))
      await session.run()

* ``check.check_client`` is the command.
"""
