"""What kernels of every mechanism share: arithmetic, input menus, workspaces, the CUDA loader."""
