"""What every stage uses: errors, files, settings, progress, devices, threads, engines. It knows no picture."""
