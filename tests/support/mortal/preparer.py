"""The preparer as it is."""

from services.executor.sandbox.preparer import main

if __name__ == "__main__":
    main()
